"""Sweeps over sides that run in milliseconds, and that can be asked to be slow, to leak and to die."""

import textwrap

SIDES = '''
"""A sampler of four lines. `kill`: its process dies while it is made; `leaky`: what is asked first stays."""
import os, pathlib, signal, time
import torch, whydiff

LOADED = pathlib.Path(__file__).with_name("loaded.txt")

class Toy:
    def __init__(self, noise_scale=1.0, broken=False, leaky=False, sleep=0.0, limit=None):
        self.noise_scale, self.broken, self.leaky, self.sleep, self.limit = noise_scale, broken, leaky, sleep, limit
        self.tables, self.last = {}, None
        with LOADED.open("a") as file:
            file.write(f"{type(self).__name__} {os.getpid()}\\n")

    def __call__(self, prompt="a circle", height=8, width=12, num_inference_steps=3, seed=0):
        time.sleep(self.sleep)
        if self.broken:
            raise RuntimeError("no such kernel\\nand a second line")
        self.last = (height, seed)  # a run leaves something behind
        table = self.tables.setdefault(width if self.leaky else (height, width), torch.arange(1.0, height + 1)[None, None, :, None])
        noise = torch.randn(1, 4, height, width, generator=torch.Generator().manual_seed(seed)) * self.noise_scale
        latents = whydiff.tap("initial_noise", noise)
        sigmas = whydiff.tap("sigmas", torch.linspace(1, 1 / num_inference_steps, num_inference_steps))
        for i in range(num_inference_steps):
            noise_pred = whydiff.tap("noise_pred", torch.tanh(latents) * sigmas[i], step=i)
            if self.limit is not None and num_inference_steps > self.limit:
                noise_pred = noise_pred * 1.5
            latents = whydiff.tap("latents", latents - noise_pred / num_inference_steps, step=i)
        rows = table if table.shape[2] == height else table[:, :, :1]
        return whydiff.tap("image", ((latents * rows / 9)[:, :3].movedim(1, -1).clamp(-1, 1) + 1) / 2)

class Port(Toy):
    """The same numbers by other code."""

def reference(**build):
    return Toy(**build)

def port(kill=None, tf32=False, **build):
    if tf32:
        torch.backends.cuda.matmul.allow_tf32 = True
    marker = pathlib.Path(__file__).with_name(f"killed {kill}")
    if kill == "always" or (kill == "once" and not marker.exists()):
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return Port(**build)
'''

CASE = """
title: toy
reference: {name: toy, live: {entry: "sides.py:reference", call: &call {prompt: a circle, seed: 0}}}
candidate: {name: port, live: {entry: "sides.py:port", build: {noise_scale: 1.0}, call: *call}}
"""


def toy_folder(folder):
    (folder / "sides.py").write_text(textwrap.dedent(SIDES))
    (folder / "toy.yaml").write_text(CASE)
    return folder
