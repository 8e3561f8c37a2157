"""Frame by frame: noise, a few Euler steps that look at earlier frames, a pass that remembers the frame, decoding."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whydiff import tap

from .memory import Memory
from .options import Options
from .text import load_text_encoder, make_checkpoint, tokenize
from .transformer import CHANNELS, CONTROLS, SIDE, WorldTransformer

WEIGHTS_SEED = 2026  # random weights, made anew each time: the same numbers for every build


@dataclass(frozen=True)
class Video:
    frames: Tensor  # (1, F, H, W, 3) in [0, 1]


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.wide, self.out = nn.Conv2d(CHANNELS, 32, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        """(1, C, H, W) -> (1, 3, 2H, 2W) in [-1, 1]."""
        return torch.tanh(self.out(F.pixel_shuffle(F.silu(self.wide(latents)), 2)))


class WorldPipeline:
    """`options` are the fields of Options. Frames are told apart by the occurrence of a probe: 0, 1, 2, ..."""

    def __init__(self, **options):
        self.options = Options(**{key: tuple(v) if isinstance(v, list) else v for key, v in options.items()})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(WEIGHTS_SEED)
            self.transformer, self.vae = WorldTransformer(self.options).eval(), Decoder().eval()
            self.text_encoder, self.dropped = load_text_encoder(self.options.text_encoder, make_checkpoint(WEIGHTS_SEED))

    @property
    def components(self) -> dict[str, nn.Module]:
        return {"text_encoder": self.text_encoder, "transformer": self.transformer, "vae": self.vae}

    @torch.no_grad()
    def __call__(self, prompt: str = "an explorable world", num_frames: int = 10, seed: int = 0, held_key: bool = False) -> Video:
        """`held_key`: the same control in each frame; otherwise it changes from frame to frame."""
        options = self.options
        torch.manual_seed(seed)  # once, as the scripts that drive the official pipeline do
        text, text_mask = self.encode(prompt)
        sigmas = tap("sigmas", torch.tensor(options.sigmas).to(getattr(torch, options.sigma_dtype)).float())
        memory, frames, first_std = Memory(options, num_frames), [], None
        for frame in range(num_frames):
            latents = tap("initial_noise", self.draw(frame, seed))
            control = self.control(frame, held_key)
            for i in range(len(sigmas) - 1):
                velocity, keys, values = self.evaluate(latents, sigmas[i], text, text_mask, control, frame, memory, step=i)
                latents = latents + (sigmas[i + 1] - sigmas[i]) * tap("noise_pred_text", velocity, step=i)
                latents = tap("latents", latents.to(getattr(torch, options.accumulate)).float(), step=i)
                if options.write == "denoise":
                    self.remember(memory, frame, keys, values, step=i)
            first_std = latents.std() if first_std is None else first_std
            latents = tap("kept_latents", latents * (1 + options.renorm * (first_std / latents.std() - 1)), step=i)
            if options.write == "pass":
                level = sigmas[-1] if options.pass_sigma == "zero" else sigmas[-2]
                _, keys, values = self.evaluate(latents, level, text, text_mask, control, frame, memory, step=i + 1)
                self.remember(memory, frame, keys, values, step=i + 1)
            latents = tap("vae_latents", latents / options.vae_scale + options.vae_shift)
            frames.append(tap("decoded", self.vae(latents)))
        return Video(frames=(torch.cat(frames).movedim(1, -1)[None] + 1) / 2)

    def encode(self, prompt: str) -> tuple[Tensor, Tensor]:
        """Prompt -> embeddings (1, L, D) with rows of padding set to zero, and the mask that cross-attention gets (1, L)."""
        ids, mask = tokenize(prompt)
        embeds = self.text_encoder(input_ids=tap("input_ids", ids), attention_mask=tap("attention_mask", mask)).last_hidden_state
        embeds = tap("prompt_embeds", embeds * mask[..., None].to(getattr(torch, self.options.mask_dtype)))
        return embeds, mask if self.options.mask_padding else torch.ones_like(mask)

    def draw(self, frame: int, seed: int) -> Tensor:
        own = torch.Generator().manual_seed(seed + frame) if self.options.noise == "frame" else None
        return torch.randn(1, CHANNELS, SIDE, SIDE, generator=own)

    def control(self, frame: int, held: bool) -> Tensor:
        """What the player does in a frame, (CONTROLS,)."""
        index = min(frame, self.options.control_chunk - 1) if self.options.control_chunk else frame
        return torch.tensor([1.0, 0.0, 0.0]) if held else torch.sin(torch.arange(1.0, CONTROLS + 1) * (index + 1))

    def evaluate(self, latents, sigma, text, text_mask, control, frame, memory, step):
        """One evaluation of the network; what it receives is shown, and repaired, argument by argument."""
        return self.transformer(
            tap("latent_model_input", latents, step=step), timestep=tap("model_input/timestep", sigma[None], step=step),
            encoder_hidden_states=text, encoder_attention_mask=tap("model_input/encoder_attention_mask", text_mask, step=step),
            control=tap("model_input/control", control, step=step), frame=frame, memory=memory,
            visible=tap("model_input/visible_frames", memory.visible(frame), step=step))  # fmt: skip

    def remember(self, memory: Memory, frame: int, keys: Tensor, values: Tensor, step: int) -> None:
        memory.write(frame, tap("cached_keys", keys, step=step), tap("cached_values", values, step=step))
