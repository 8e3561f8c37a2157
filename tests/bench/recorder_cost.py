"""What recording costs, beside what one would otherwise do: a FLUX transformer of random weights, scaled to the machine.

    python tests/bench/recorder_cost.py [--write] [--rounds N] [--steps N] [--blocks N] [--width N] [--tokens N] [--device cuda --dtype bfloat16]

Width decides: a layer computes 2 * width operations for each number that it puts out, and recording looks at each number once. So the
blocks are as wide as FLUX's, and there are fewer of them. `--narrow` adds a network of width 768, for which recording is dearest.

The ways take turns. `run` is how much longer the steps take, `own` how much more of the processor the thread that runs the model uses
(what others do on the machine moves the first and hardly the second), `on disk` how long it takes until all is written.
"""  # fmt: skip

import argparse
import contextlib
import pathlib
import shutil
import statistics
import tempfile
import time

import torch
from diffusers import FluxTransformer2DModel
from side_by_side import show, table

import whydiff


def network(asked) -> FluxTransformer2DModel:
    torch.manual_seed(0)
    with torch.device(asked.device):
        return FluxTransformer2DModel(
            num_layers=asked.blocks // 3, num_single_layers=asked.blocks - asked.blocks // 3, attention_head_dim=64,
            num_attention_heads=asked.width // 64, joint_attention_dim=256, pooled_projection_dim=256, in_channels=64,
            axes_dims_rope=(8, 28, 28)).to(getattr(torch, asked.dtype)).eval()  # fmt: skip


class Sampler:
    """The loop of a pipeline, with its probes."""

    def __init__(self, asked):
        self.transformer = network(asked)
        self.components = {"transformer": self.transformer}
        kind = {"device": asked.device, "dtype": getattr(torch, asked.dtype)}
        self.latents, self.text = torch.randn(1, asked.tokens, 64, **kind), torch.randn(1, 128, 256, **kind)
        self.steps = asked.steps
        self.pooled, self.places = torch.randn(1, 256, **kind), torch.zeros(asked.tokens, 3, **kind)

    @torch.no_grad()
    def __call__(self):
        latents = whydiff.tap("initial_noise", self.latents)
        sigmas = whydiff.tap("sigmas", torch.linspace(1, 0.5, self.steps))
        for i in range(self.steps):
            pred = self.transformer(hidden_states=latents, encoder_hidden_states=self.text, pooled_projections=self.pooled,
                                    timestep=sigmas[i].to(latents).expand(1), img_ids=self.places,
                                    txt_ids=self.places.new_zeros(128, 3), guidance=None, return_dict=False)[0]  # fmt: skip
            latents = whydiff.tap("latents", latents - whydiff.tap("noise_pred", pred, step=i) / self.steps, step=i)
        if latents.is_cuda:
            torch.cuda.synchronize()


@contextlib.contextmanager
def hooks(sampler, work):
    """`work(name, tensor)` for each module's output."""
    def hook(name):
        return lambda _module, _args, output: [work(name, t) for t in (output if isinstance(output, tuple) else (output,))
                                               if isinstance(t, torch.Tensor)] and None  # fmt: skip

    handles = [m.register_forward_hook(hook(name)) for name, m in sampler.transformer.named_modules() if name]
    yield
    for handle in handles:
        handle.remove()


def statistics_hooks(sampler, folder):
    found = []
    return hooks(sampler, lambda name, t: found.append((name, t.mean().item(), t.std().item(), t.min().item(), t.max().item())))


def saving_hooks(sampler, folder):
    numbers = iter(range(10**9))
    return hooks(sampler, lambda name, t: torch.save(t, folder / f"{next(numbers)}-{name}.pt"))


def debug_mode(sampler, folder):
    from torch.utils._debug_mode import DebugMode

    return DebugMode()


WAYS = {
    "nothing recorded": lambda sampler, folder: contextlib.nullcontext(),
    "whydiff, stage probes": lambda sampler, folder: whydiff.record(sampler, folder / "t"),
    "whydiff, fingerprints of every module": lambda sampler, folder: whydiff.record(sampler, folder / "t", modules=["transformer/*"],
                                                                                   level="fingerprint"),
    "whydiff, fingerprints of every block": lambda sampler, folder: whydiff.record(
        sampler, folder / "t", modules=["transformer/*blocks.[0-9]", "transformer/*blocks.[0-9][0-9]"], level="fingerprint"),
    "whydiff, every module whole": lambda sampler, folder: whydiff.record(sampler, folder / "t", modules=["transformer/*"]),
    "hooks: mean, std, min, max of every module": statistics_hooks,
    "torch DebugMode (names and shapes of operations, no values)": debug_mode,
    "hooks: torch.save of every module": saving_hooks,
}  # fmt: skip


def once(sampler, way) -> tuple[float, float, float, int, int]:
    """Seconds of the steps, of their thread's processor time, until all is on disk; bytes written; tensors shown."""
    folder = pathlib.Path(tempfile.mkdtemp())
    try:
        begun = time.perf_counter()
        with way(sampler, folder):
            start, own = time.perf_counter(), time.thread_time()
            sampler()
            taken, own = time.perf_counter() - start, time.thread_time() - own
        whole = time.perf_counter() - begun
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        lines = folder / "t" / "trace.jsonl"
        return taken, own, whole, size, lines.read_text().count('"probe"') if lines.exists() else 0
    finally:
        shutil.rmtree(folder)


def measured(asked) -> str:
    """All ways in turn; medians."""
    sampler = Sampler(asked)
    once(sampler, WAYS["nothing recorded"])
    found = {name: [] for name in WAYS}
    for _ in range(asked.rounds):
        for name, way in WAYS.items():
            found[name].append(once(sampler, way))
    base = [statistics.median(column) for column in zip(*found["nothing recorded"])]
    rows = []
    for name, runs in found.items():
        run, own, whole, size, count = (statistics.median(column) for column in zip(*runs))
        rows.append([name, f"{run / base[0]:.2f}", f"{own / base[1]:.2f}", f"{whole / base[0]:.2f}", f"{size / asked.steps / 1e6:.1f}",
                     f"{count / asked.steps:.0f}" if count else ""])  # fmt: skip
    device = torch.cuda.get_device_name() if asked.device.startswith("cuda") else f"CPU, {torch.get_num_threads()} thread(s)"
    said = (f"{device}, {asked.dtype}, {asked.blocks} blocks of width {asked.width}, {asked.tokens} tokens, {asked.steps} steps of "
            f"{base[0] / asked.steps:.2f} s, of which {base[1] / asked.steps:.2f} s on the processor; median of {asked.rounds} rounds.")  # fmt: skip
    return table(["", "run", "own", "on disk", "MB a step", "tensors a step"], rows) + "\n\n" + said


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--narrow", action="store_true", help="a narrow network, too")
    for name, default in {"rounds": 3, "steps": 6, "blocks": 3, "width": 3072, "tokens": 512}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    asked = parser.parse_args()
    found = [measured(asked)]
    if asked.narrow:
        found.append(measured(argparse.Namespace(**(vars(asked) | {"blocks": 6, "width": 768, "tokens": 1024}))))
    show("recording", "\n\n".join(found), asked.write)


if __name__ == "__main__":
    main()
