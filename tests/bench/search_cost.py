"""What one diagnosis costs against the bytes that were recorded: the same case with more steps, and with larger tensors.

    python tests/bench/search_cost.py [--write] [--most 6]

Both sides are traces of a made-up run whose candidate goes wrong in one module of the second step; nothing is run again. Processor
seconds of one thread are counted, which a busy machine changes least. With `--write` the curve is drawn, too.
"""  # fmt: skip

import argparse
import json
import pathlib
import tempfile
import time

import matplotlib
import torch
from safetensors.torch import save_file
from side_by_side import show, table
from written import FILE

import whydiff
from whydiff.evidence.case import make_case
from whydiff.measure.relations import find_relation

MODULES = 6


def run(folder: pathlib.Path, steps: int, tokens: int, role: str) -> int:
    """Write a trace of a pipeline with `steps` steps of latents (1, tokens, 64) and modules (1, tokens, 512); returns its bytes."""
    folder.mkdir()
    g = torch.Generator().manual_seed(0)
    drawn = [torch.randn(1, tokens, n, generator=g) for n in (64, 512)]
    error = 0.1 * torch.randn(1, tokens, 512, generator=g)
    lines, size = [{"schema": 1, "producer": {"role": role}}], 0
    held: dict = {("initial_noise", None, None): drawn[0], ("sigmas", None, None): torch.linspace(1, 0, steps + 1)}
    for step in range(steps):
        wrong = role == "candidate" and step >= 1
        for k in range(MODULES):
            held["modules", step, f"transformer/blocks.{k}"] = drawn[1].roll(step + k, 1) + (error if wrong and k >= 3 else 0)
        for probe in ("noise_pred", "latents"):
            held[probe, step, None] = drawn[0].roll(step + 1, 1) + (error[..., :64] if wrong else 0)
    for number, ((probe, step, module), tensor) in enumerate(held.items()):
        file = folder / f"tensors-{number:05d}.safetensors"
        save_file({"0": tensor.contiguous()}, file)
        size += file.stat().st_size
        lines.append({"probe": probe, "step": step, "module": module, "shape": list(tensor.shape), "dtype": "float32", "file": file.name, "key": "0"})
    (folder / "trace.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*lines, {"complete": True}]))
    return size


def diagnosed(steps: int, tokens: int) -> tuple[float, float]:
    """(MiB of both traces, processor seconds of the fastest of two diagnoses)."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {role: pathlib.Path(folder) / role for role in ("reference", "candidate")}
        size = sum(run(path, steps, tokens, role) for role, path in paths.items())
        taken = []
        for _ in range(2):
            start = time.process_time()
            whydiff.diagnose(make_case({role: {"trace": str(path)} for role, path in paths.items()}))
            taken.append(time.process_time() - start)
        return size / 2**20, min(taken)


def searched(elements: int) -> float:
    """Processor seconds of one search for a relation that there is not."""
    g = torch.Generator().manual_seed(0)
    a, b = (torch.randn(1, elements // 1024, 1024, generator=g) for _ in range(2))
    start = time.process_time()
    find_relation(a, a + 0.3 * b)
    return time.process_time() - start


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true", help="put the table and the curve into docs/")
    parser.add_argument("--most", type=int, default=6, help="how often the size is doubled")
    given = parser.parse_args()
    torch.set_num_threads(1)
    big = torch.randn(1 << 22)
    whydiff.compare(big, big + 1, deciding=True)  # what is made once: machine code
    diagnosed(2, 16)
    by_steps = [(2 ** (k + 1), *diagnosed(2 ** (k + 1), 256)) for k in range(given.most)]
    by_size = [(128 * 2**k, *diagnosed(4, 128 * 2**k)) for k in range(given.most)]
    searches = [(2 ** (18 + 2 * k), searched(2 ** (18 + 2 * k))) for k in range(4)]
    rows = [[f"{steps} steps", f"{size:.0f} MiB", f"{taken:.2f}", f"{1000 * taken / size:.1f}"] for steps, size, taken in by_steps]
    rows += [[f"{tokens} tokens, 4 steps", f"{size:.0f} MiB", f"{taken:.2f}", f"{1000 * taken / size:.1f}"] for tokens, size, taken in by_size]
    text = table(["recorded", "of both sides", "processor seconds of one diagnosis", "ms for each MiB"], rows)
    text += "\n\n" + table(["a relation that there is not, elements of each tensor", "processor seconds"],
                           [[f"{n:,}", f"{taken:.2f}"] for n, taken in searches])  # fmt: skip
    show("search_cost", text, given.write)
    if given.write:
        drawn(by_steps, by_size)


def drawn(by_steps: list, by_size: list) -> None:
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4), layout="constrained")
    for rows, label, marker in ((by_steps, "more steps", "o"), (by_size, "larger tensors", "s")):
        axes.loglog([size for _, size, _ in rows], [taken for *_, taken in rows], marker=marker, label=label)
    last = by_size[-1]
    sizes = [by_size[0][1], last[1]]
    axes.loglog(sizes, [last[2] * size / last[1] for size in sizes], ":", color="grey", label="in proportion to the bytes")
    axes.set(xlabel="recorded by both sides, MiB", ylabel="processor seconds", title="What one diagnosis of recorded traces costs")
    axes.set_xticks([round(size) for _, size, _ in by_size])
    axes.set_yticks([0.05, 0.1, 0.2, 0.5, 1, 2, 5])
    axes.set_ylim(0.8 * by_size[0][2], 1.3 * last[2])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(FILE.parent / "pictures" / "diagnosis_cost.png", dpi=130)


if __name__ == "__main__":
    main()
