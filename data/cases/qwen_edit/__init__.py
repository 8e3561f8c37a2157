"""A small Qwen-Image-Edit on diffusers' own transformer and scheduler, driven as a ComfyUI graph drives it."""
