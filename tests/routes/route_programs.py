"""The programs of the routes: the faulty port in a process that lacks whydiff and diffusers, and shared out over four of them."""

import os
import pathlib
import subprocess
import sys

from whydiff.evidence.recording.one_file import written

ROOT = pathlib.Path(__file__).resolve().parents[2]
CASES, MODEL = ROOT / "data" / "cases", ROOT / "data" / "models" / "tiny-flux"
# 9 x 15 tokens: four ranks do not divide them; and more values in the latents than a fingerprint keeps whole.
CALL = {"prompt": "two blue squares on black", "height": 72, "width": 120, "num_inference_steps": 3, "max_sequence_length": 16, "seed": 0}
FAULTS = {"flow_shift": 1.5, "apply_vae_shift_factor": False}
RANKS = 4
# What the port does not import itself. `whydiff` is one line there: the recorder's tap.
MISSING = ("diffusers", "transformers", "accelerate", "pydantic", "ruamel", "PIL", "skimage", "papermill", "typer", "rich", "matplotlib", "scipy")

_START = f"""
import pathlib, sys
sys.modules.update(dict.fromkeys({MISSING!r}))
sys.path[:0] = [{str(CASES)!r}]
import torch
import native_flux.pipeline as port
import whydiff
from whydiff_tap import record, recording, tap
assert "evidence" not in dir(whydiff) and not hasattr(whydiff, "diagnose")
pipeline = port.NativeFluxPipeline({str(MODEL)!r}, **{FAULTS!r})
out = pathlib.Path(sys.argv[1])
"""

ALONE = _START + f"""
for level in ("full", "fingerprint"):
    with record(pipeline, out / level, level=level):
        pipeline(**{CALL!r})
"""

# The loop shared out along the tokens: each rank keeps its own, and all gather them for the network.
SHARED_OUT = _START + f"""
import torch.distributed as dist
from native_flux.sampler import predict

rank, ranks = int(__import__("os").environ["RANK"]), {RANKS}
dist.init_process_group("gloo", init_method="file://" + str(out) + ".store", rank=rank, world_size=ranks)

def denoise(transformer, latents, prompt_embeds, pooled, positions, sigmas, guidance_scale, options):
    timesteps, tokens = tap("timesteps", sigmas[:-1] * 1000), latents.shape[1]
    own = -(-tokens // ranks)

    def mine_of(whole):
        padded = torch.nn.functional.pad(whole, (0, 0, 0, own * ranks - tokens))
        return padded[:, rank * own : (rank + 1) * own].contiguous()

    def gathered(part):
        parts = [torch.empty_like(part) for _ in range(ranks)]
        dist.all_gather(parts, part)
        return torch.cat(parts, 1)[:, :tokens]

    mine = mine_of(latents)
    for i in range(len(timesteps)):
        velocity = predict(transformer, gathered(mine), prompt_embeds, pooled, positions, timesteps[i], guidance_scale, options, step=i)
        velocity = tap("noise_pred", tap("noise_pred_text", velocity, step=i), step=i)
        mine = tap("latents", mine + (sigmas[i + 1] - sigmas[i]) * mine_of(velocity), step=i)
    return gathered(mine)

port.denoise = denoise
with record(pipeline, out / f"rank-{{rank}}"):
    pipeline(**{CALL!r})
dist.destroy_process_group()
"""


def home(folder: pathlib.Path) -> pathlib.Path:
    """A folder with the recorder in one file, and a `whydiff` that is its tap alone."""
    folder.mkdir()
    written(folder / "whydiff_tap.py")
    (folder / "whydiff.py").write_text("from whydiff_tap import tap\n")
    return folder


def run(program: str, home: pathlib.Path, out: pathlib.Path, ranks: int = 1) -> None:
    """Run a program in as many processes as there are ranks, all at once. Raises AssertionError with what the first broken one said."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WHYDIFF_")} | {"PYTHONPATH": str(home), "OMP_NUM_THREADS": "1"}
    processes = [subprocess.Popen([sys.executable, "-W", "ignore", "-c", program, str(out)], env=environment | {"RANK": str(rank)},
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for rank in range(ranks)]  # fmt: skip
    try:
        said = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, text in zip(processes, said, strict=True):
        assert process.returncode == 0, text
