"""A sampler that needs torch alone, and an environment that has nothing else."""

import pathlib
import venv

import torch

SIDES = '''
"""A sampler with a text encoder and a network of two blocks; `build` holds its defects."""
import math, os, sys
import torch, whydiff

class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.norm = torch.nn.Embedding(64, 16), torch.nn.LayerNorm(16)
        self.words.weight.data[:] *= 0.01
    def forward(self, input_ids):
        return self.norm(self.words(input_ids))

class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.up, self.act, self.down = torch.nn.LayerNorm(16), torch.nn.Linear(16, 32), torch.nn.GELU(), torch.nn.Linear(32, 16)
    def forward(self, x, scale):
        return x + self.down(self.act(self.up(self.norm(x)))) * scale

class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = torch.nn.ModuleList([Block(), Block()])
    def forward(self, hidden_states, timestep, encoder_hidden_states):
        x = torch.cat([encoder_hidden_states, hidden_states], 1)
        for block in self.blocks:
            x = block(x, 0.1 + timestep)
        return x[:, encoder_hidden_states.shape[1]:]

class Sampler:
    def __init__(self, eps=1e-5, encoder_eps=1e-5, exact=True, shift=3.0, dies=False):
        torch.manual_seed(0)
        self.components = {"text_encoder": Encoder().eval(), "transformer": Network().eval()}
        self.components["text_encoder"].norm.eps = encoder_eps
        block = self.components["transformer"].blocks[1]
        block.norm.eps = eps
        if not exact:
            block.act.forward = lambda x: torch.nn.functional.gelu(x, approximate="tanh")
        self.shift, self.dies = shift, dies

    def __call__(self, prompt="a circle", num_inference_steps=3, seed=0):
        print("a side that prints")
        if self.dies:
            print("out of luck", file=sys.stderr, flush=True)
            os._exit(7)
        ids = whydiff.tap("input_ids", torch.tensor([[ord(c) % 64 for c in prompt]]))
        embeds = whydiff.tap("prompt_embeds", self.components["text_encoder"](ids))
        latents = whydiff.tap("initial_noise", torch.randn(1, 6, 16, generator=torch.Generator().manual_seed(seed)))
        grid = torch.linspace(1, 1 / num_inference_steps, num_inference_steps)
        sigmas = whydiff.tap("sigmas", torch.cat([self.shift * grid / (1 + (self.shift - 1) * grid), torch.zeros(1)]))
        for i in range(num_inference_steps):
            x = whydiff.tap("latent_model_input", latents, step=i)
            made = whydiff.tap("noise_pred", self.components["transformer"](x, sigmas[i], embeds), step=i)
            latents = whydiff.tap("latents", latents + made * (sigmas[i + 1] - sigmas[i]), step=i)
        return latents.reshape(1, 4, 8, 3).sigmoid()

def sampler(**build):
    return Sampler(**build)
'''

# What a side's environment need not have.
MISSING = ("numpy", "safetensors", "pydantic", "ruamel", "yaml", "PIL", "diffusers", "transformers", "scipy", "papermill")


def bare_interpreter(folder: pathlib.Path) -> pathlib.Path:
    """The interpreter of a virtual environment in which torch is all that can be imported."""
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    packages = pathlib.Path(torch.__file__).parents[1]
    (site / "only_torch.pth").write_text(f"import sys; sys.modules.update(dict.fromkeys({MISSING!r}))\n{packages}\n")
    return folder / "bin" / "python"
