"""The most memory that a diagnosis takes: with one side at a time, with both, and one model alone. Each in a process of its own.

    python tests/bench/memory.py [--write] [--megabytes N]
"""  # fmt: skip

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from written import write_section

SIDES = '''
import torch, whydiff

class Network(torch.nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = torch.nn.Sequential(*(torch.nn.Linear(2048, 2048) for _ in range(layers)))

    def forward(self, hidden_states, timestep):
        return torch.tanh(self.layers(hidden_states)) * (0.5 + timestep)

class Sampler:
    def __init__(self, layers, shift=3.0):
        torch.manual_seed(0)
        self.components, self.shift = {"transformer": Network(layers).eval()}, shift

    @torch.no_grad()
    def __call__(self, num_inference_steps=4, seed=0):
        latents = whydiff.tap("initial_noise", torch.randn(1, 64, 2048, generator=torch.Generator().manual_seed(seed)))
        grid = torch.linspace(1, 1 / num_inference_steps, num_inference_steps)
        sigmas = whydiff.tap("sigmas", torch.cat([self.shift * grid / (1 + (self.shift - 1) * grid), torch.zeros(1)]))
        for i in range(num_inference_steps):
            noise_pred = whydiff.tap("noise_pred", self.components["transformer"](latents, sigmas[i]), step=i)
            latents = whydiff.tap("latents", latents + (sigmas[i + 1] - sigmas[i]) * noise_pred, step=i)
        return latents
'''
SCRIPT = '''
import json, resource, sys, torch, diffusers.pipelines.pipeline_utils
from whydiff.engine.api import study
from whydiff.evidence.case import make_case
way, layers, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
live = {"entry": "sides.py:Sampler", "call": {"seed": 0}, "build": {"layers": layers}}
case = make_case({"reference": {"live": live}, "candidate": {"live": live | {"build": {"layers": layers, "shift": 5.0}}}})
case.path = folder + "/case.yaml"
small = make_case({"reference": {"live": live | {"build": {"layers": 1}}}, "candidate": {"live": live | {"build": {"layers": 1, "shift": 5.0}}}})
small.path = case.path
study(small, apart=True)  # everything is imported, and the allocator warm
before, causes = peak(), []
if way == "alone":
    from whydiff.evidence.sides.loading import load_side
    side = load_side(case, "reference")
    side.run()
else:
    causes = [cause.id for cause in study(case, apart=way == "apart").verdict.causes]
print(json.dumps([peak() - before, causes]))
'''
WAYS = {"alone": "one model, made and run", "apart": "`--one-at-a-time`", "both": "`--both-in-memory`"}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--megabytes", type=int, default=256)
    asked = parser.parse_args()
    layers = asked.megabytes * 2**20 // (4 * 2048 * 2048)
    size = layers * (2048 * 2048 + 2048) * 4 / 2**20
    lines = ["| | most memory above the start, MB | times one model | cause named |", "|---|---|---|---|"]
    environment = os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).resolve().parents[2] / "lib")}
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "sides.py").write_text(SIDES)
        for way, words in WAYS.items():
            done = subprocess.run([sys.executable, "-c", SCRIPT, way, str(layers), folder], env=environment, stdout=subprocess.PIPE, check=True)
            most, causes = json.loads(done.stdout.splitlines()[-1])
            lines.append(f"| {words} | {most:.0f} | {most / size:.2f} | {', '.join(causes)} |")
            print(lines[-1], flush=True)
    lines += ["", f"Weights of one model: {size:.0f} MB."]
    print(lines[-1])
    if asked.write:
        write_section("larger_than_memory", "\n".join(lines))


if __name__ == "__main__":
    main()
