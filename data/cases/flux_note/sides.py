"""Both sides of the FLUX note on the small model: SGLang 0.5.8's sampling, and the note's two checks as they were written.

Sources of every value: data/cases/README.md and data/facts. Nothing here is SGLang's or FastVideo's code.
"""

import sys
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline

from whydiff import tap

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from native_flux.cuda_noise import cuda_randn  # noqa: E402  it lies beside this folder

MODEL = Path(__file__).resolve().parents[2] / "models" / "tiny-flux"
MU_LINE = {"base_image_seq_len": 256, "max_image_seq_len": 4096, "base_shift": 0.5, "max_shift": 1.15}  # FLUX.1-dev


class CudaDraw(FluxPipeline):
    """FluxPipeline whose noise is what a CUDA generator with the call's seed draws."""

    def prepare_latents(self, batch_size, num_channels_latents, height, width, dtype, device, generator, latents=None):
        rows, columns = (2 * (int(size) // (2 * self.vae_scale_factor)) for size in (height, width))
        shape = (batch_size, num_channels_latents, rows, columns)
        noise = tap("initial_noise", cuda_randn(shape, generator.initial_seed()).to(dtype))
        packed = self._pack_latents(noise, *shape)
        return super().prepare_latents(batch_size, num_channels_latents, height, width, dtype, device, generator, packed)


class TooManyTokens(FlowMatchEulerDiscreteScheduler):
    """A scheduler that gets its mu from `token_factor` times too many tokens: latent pixels counted in place of packed tokens."""

    token_factor = 4

    def set_timesteps(self, num_inference_steps=None, device=None, sigmas=None, mu=None, timesteps=None):
        _, start = mu_line(self.config)
        super().set_timesteps(num_inference_steps, device, sigmas, start + self.token_factor * (mu - start), timesteps)


def mu_line(config):
    """(slope, value at 0 tokens) of the line that gives mu = slope * tokens + value."""
    span = config["max_image_seq_len"] - config["base_image_seq_len"]
    slope = (config["max_shift"] - config["base_shift"]) / span
    return slope, config["base_shift"] - slope * config["base_image_seq_len"]


def sglang():
    """diffusers' FluxPipeline, sampling as SGLang 0.5.8 does: CUDA noise, mu of 4 times too many tokens."""
    pipeline = CudaDraw.from_pretrained(MODEL, dtype=torch.float32)
    pipeline.scheduler = TooManyTokens.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def noise_check():
    """The note's test of the initial noise: a seeded CPU generator, drawn from once and once more."""

    def draw(height, width, seed):
        generator = torch.Generator("cpu").manual_seed(seed)
        return tap("initial_noise", torch.randn(1, 16, height // 8, width // 8, generator=generator))

    return draw


def scheduler_check():
    """The note's test of the scheduler: FlowMatchEuler with shift 3.0, built once and once more."""

    def schedule(num_inference_steps):
        scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
        scheduler.set_timesteps(num_inference_steps)
        return tap("sigmas", scheduler.sigmas)

    return schedule


def sampling(cuda=False, token_factor=1, last=None):
    """What FLUX.1-dev starts from and walks at full size, which takes no weights: noise, packed latents, sigmas."""

    def start(height, width, num_inference_steps, seed):
        rows, columns = height // 8, width // 8
        draw = cuda_randn if cuda else cpu_randn
        noise = tap("initial_noise", draw((1, 16, rows, columns), seed))
        latents = tap("initial_latents", FluxPipeline._pack_latents(noise, 1, 16, rows, columns))
        slope, value = mu_line(MU_LINE)
        scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True, **MU_LINE)
        grid = torch.linspace(1, last or 1 / num_inference_steps, num_inference_steps, dtype=torch.float64)
        scheduler.set_timesteps(sigmas=grid.tolist(), mu=slope * token_factor * latents.shape[1] + value)
        return tap("sigmas", scheduler.sigmas)

    return start


def cpu_randn(shape, seed):
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed))
