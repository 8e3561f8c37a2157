"""How the small world model is run. Each default is what the official engine does; other values are differences of other builds."""

from dataclasses import dataclass

# Noise levels of each list that was in use for Waypoint-1-Small, with the 0 at which sampling ends.
OFFICIAL_SIGMAS = (1.0, 0.8609585762023926, 0.729332447052002, 0.3205108940601349, 0.0)  # FastVideo PR 1058 @640e654f3
README_SIGMAS = (1.0, 0.8611363, 0.7293324, 0.3207127, 0.0)  # PR 1058 @12c99dd42, pipelines/basic/waypoint/README.md
THREE_STEP_SIGMAS = (1.0, 0.94921875, 0.83984375, 0.0)  # PR 1058 @2e2375dc8, configs/pipelines/waypoint.py:67
BIOME_SIGMAS = (1.0, 0.8, 0.2, 0.0)  # Overworldai/Biome @a3ffb4c, server.py:176


@dataclass(frozen=True)
class Options:
    """Where each value was found stands in README.md beside this file."""

    sigmas: tuple[float, ...] = OFFICIAL_SIGMAS
    sigma_dtype: str = "bfloat16"  # in which the list is kept; the network's embedding sees the rounding
    noise: str = "stream"  # "stream": one global stream; "frame": a generator per frame, seed + index of the frame
    text_encoder: str = "umt5"  # "t5" loads the same weights into T5's class, which has a position bias in layer 0 only
    mask_padding: bool = False  # cross-attention does not look at the padding of the prompt
    memory: str = "windows"  # "flat": every layer sees all frames up to `cap`; "none": only the frame being made
    cap: int = 128  # past frames that a flat memory keeps
    write: str = "pass"  # "pass": keys are written in a pass of their own; "denoise": in each denoising pass; "never"
    pass_sigma: str = "zero"  # noise level of the writing pass; "last": the last one at which the network denoises
    renorm: float = 0.0  # how far each frame's latents are pulled to the standard deviation of frame 0
    control_chunk: int = 0  # frames of a chunk past whose end the last control is repeated; 0: each frame has its own
    accumulate: str = "float32"  # in which latents are kept from step to step
    round_frequencies: bool = False  # the table of the sigma embedding went through bfloat16
    norm_eps: float | None = None  # None is that of the dtype, as in torch's rms_norm
    norm_dtype: str = "float32"  # in which RMSNorm takes its mean of squares
    mask_dtype: str = "float32"  # to which the prompt's mask is cast before it is multiplied in
    vae_scale: float = 1.0
    vae_shift: float = 0.0

    local_window: int = 4  # frames; 16 officially
    global_window: int = 8  # 128
    dilation: int = 2  # 8
    layers: int = 5  # 22
    global_period: int = 4  # 4
