"""How the port is built. Each default is what FluxPipeline does; other values are defects of real ports."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """The sources of the defects are in data/cases/README.md."""

    dtype: str = "float32"  # of all modules
    width_first: bool = False  # takes (height, width) for (width, height)

    generator_device: str = "cpu"  # "cuda" draws what a CUDA generator would
    noise_dtype: str | None = None  # in which noise is drawn; None is that of the modules
    default_seed: int | None = None  # used when the call names none; None is torch's global generator

    default_max_sequence_length: int = 512  # of T5, when the call names none
    mask_text_padding: bool = False  # T5 does not look at padding

    default_num_inference_steps: int = 28
    sigma_min: float | None = None  # the last of the unshifted sigmas; None is 1 / steps
    mu_token_factor: float = 1  # 4 counts latent pixels instead of tokens
    flow_shift: float | None = None  # a static shift in place of the one that depends on the size
    timestep_scale: float = 1.0  # 0.001 when timesteps are divided by 1000 once too often

    default_guidance_scale: float = 3.5
    guidance_embed_scale: float = 1.0  # 0.001 when guidance is divided by 1000 on its way

    apply_rope: bool = True
    negate_velocity: bool = False  # takes the network to predict image - noise

    apply_vae_scaling_factor: bool = True
    apply_vae_shift_factor: bool = True
