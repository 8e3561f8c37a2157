"""How fast `compare` reads two tensors, beside what one would otherwise take and beside the rate at which torch adds them up.

    python tests/bench/one_pass.py [--write] [--device cuda] [--elements 33554432]

One thread is timed by its processor seconds, which a busy machine changes least; several by the clock on the wall.
Polygraphy and msprobe (`pip install polygraphy mindstudio-probe`) are measured where they are installed. With `--device cuda` the limit
is the rate of a copy, `b.copy_(a)`, which reads and writes as many bytes as are read here.
"""  # fmt: skip

import argparse
import contextlib
import importlib.util
import time

import numpy as np
import torch
from side_by_side import in_turns, show, table

from whydiff.measure.compare import compare


def straightforward(a, b) -> list:
    """The same figures as one writes them down, in float32."""
    x, y = a.float(), b.float()
    d = (x - y).abs()
    finite = x.isfinite() & y.isfinite()
    relative = (d / x.abs())[x != 0]
    u, v = x - x.mean(), y - y.mean()
    bits = torch.int32 if a.dtype is torch.float32 else torch.int16
    ulp = (a.view(bits).int() - b.view(bits).int()).abs().max()
    return [value.item() for value in (
        d.max(), d.mean(), relative.max(), relative.mean(), d.norm() / x.norm(), (x * y).sum() / x.norm() / y.norm(),
        (u * v).sum() / u.norm() / v.norm(), (d * d).mean(), x.max() - x.min(), (x != y).sum(), (~x.isfinite()).sum(), (~y.isfinite()).sum(),
        finite.all(), d.argmax(), ulp)]  # fmt: skip


def with_numpy(a, b) -> list:
    x, y = a.float().numpy().ravel(), b.float().numpy().ravel()
    d = np.abs(x - y)
    with np.errstate(divide="ignore"):
        relative = d / np.abs(x)
    return [d.max(), d.mean(), relative.max(), relative.mean(), np.linalg.norm(d) / np.linalg.norm(x), np.corrcoef(x, y)[0, 1], (d * d).mean(),
            np.isfinite(x).sum(), np.isfinite(y).sum(), (x != y).sum(), d.argmax()]  # fmt: skip


def peers(a, b) -> dict:
    """Tools that are installed, each as its documentation has it."""
    found = {}
    mine, theirs = a.float().numpy(), b.float().numpy()
    if importlib.util.find_spec("polygraphy"):
        from polygraphy.comparator import Comparator, IterationResult, RunResults, SimpleCompareFunc
        from polygraphy.logger import G_LOGGER

        G_LOGGER.module_severity = G_LOGGER.CRITICAL
        runs = RunResults()
        runs.append(("a", [IterationResult({"x": mine}, runner_name="a")]))
        runs.append(("b", [IterationResult({"x": theirs}, runner_name="b")]))
        found["Polygraphy 0.53.6, `simple`"] = lambda: Comparator.compare_accuracy(runs, compare_func=SimpleCompareFunc())
    if importlib.util.find_spec("msprobe"):
        with contextlib.suppress(ImportError):
            from msprobe.core.compare.npy_compare import compare_ops_apply

            found["msprobe 26.2.0, its comparison of two arrays"] = lambda: compare_ops_apply(mine, theirs, False, "")
    return found


def made_once() -> None:
    """What the first comparison in a process makes: machine code, for either width, and the threads' room."""
    for dtype in (torch.float32, torch.float64):
        few = torch.randn(1 << 22, dtype=dtype)
        compare(few, few + 1)


def cpu(elements: int, threads: int) -> str:
    torch.set_num_threads(threads)
    made_once()
    g = torch.Generator().manual_seed(0)
    a = torch.randn(elements, generator=g)
    b = a + 1e-3 * torch.randn(elements, generator=g)
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        x, y = a.to(dtype), b.to(dtype)
        ways = {"*limit: `a.sum(), b.sum()`*": lambda x=x, y=y: (x.sum(), y.sum()),
                "**whydiff, deciding figures**": lambda x=x, y=y: compare(x, y, deciding=True),
                "**whydiff, all figures**": lambda x=x, y=y: compare(x, y),
                "torch, straightforward": lambda x=x, y=y: straightforward(x, y),
                "`torch.testing.assert_close`": lambda x=x, y=y: torch.testing.assert_close(x, y, rtol=1, atol=1)}  # fmt: skip
        if dtype is torch.float32 and threads == 1:
            ways |= {"numpy, straightforward": lambda x=x, y=y: with_numpy(x, y)} | peers(x, y)
        rows += _rows(f"{str(dtype)[6:]}, {threads} thread{'s' * (threads > 1)}", x, y, ways, clock_of(threads))
    return table(["", "", "GB/s", "of the limit", "times the straightforward torch", "memory beyond the inputs, of their size"], rows)


def clock_of(threads: int):
    return time.process_time if threads == 1 else time.perf_counter


def _rows(title: str, x, y, ways: dict, clock=time.perf_counter) -> list[list]:
    size = x.numel() * x.element_size() + y.numel() * y.element_size()
    found = in_turns(ways, clock=clock)
    limit, plain = next(iter(found.values())).seconds, next((m.seconds for n, m in found.items() if "straightforward" in n), None)
    return [[title if k == 0 else "", name, f"{size / m.seconds / 1e9:.2f}", f"{limit / m.seconds:.2f}",
             f"{plain / m.seconds:.1f}" if plain else "", f"{m.memory / size:.2f}"] for k, (name, m) in enumerate(found.items())]  # fmt: skip


def types_and_strides(elements: int) -> str:
    """Every type beside its own limit, one thread."""
    torch.set_num_threads(1)
    side = int(elements**0.5)
    a = torch.randn(side, side)
    b = a + 1e-3 * torch.randn(side, side)
    pairs = {"float64": (a.double(), b.double()), "float16": (a.half(), b.half()), "float32 against bfloat16": (a, b.bfloat16()),
             "uint8": ((a * 30 + 128).to(torch.uint8), (b * 30 + 128).to(torch.uint8)),
             "float8_e4m3fn against float32": (a.to(torch.float8_e4m3fn), b), "float32, both transposed": (a.T, b.T),
             "float32, one transposed": (a, b.T.contiguous().T), "float32, every second column": (a[:, ::2], b[:, ::2])}  # fmt: skip
    rows = []
    for name, (x, y) in pairs.items():
        size = sum(t.numel() * t.element_size() for t in (x, y))
        ways = {"deciding": lambda x=x, y=y: compare(x, y, deciding=True), "all": lambda x=x, y=y: compare(x, y)}
        if "float8" not in name:  # which torch does not add up
            ways = {"`a.sum(), b.sum()`": lambda x=x, y=y: (x.sum(), y.sum())} | ways
        if name == "float32, one transposed":
            ways["`a.sum(), b.sum()`"] = lambda x=x, y=y: (x.sum(), y.contiguous().sum())
            name += "; torch puts it in order before it adds"
        found = in_turns(ways, 3, clock=time.process_time)
        rows.append([name, *(f"{size / found[k].seconds / 1e9:.2f}" if k in found else "" for k in ("`a.sum(), b.sum()`", "deciding", "all"))])
    return table(["one thread, GB/s", "`a.sum(), b.sum()`", "deciding figures", "all figures"], rows)


def cuda(elements: int) -> str:
    """The deciding figures beside a copy, on the first GPU."""
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(elements, device="cuda").to(dtype)
        y, room = (x.float() * 1.001).to(dtype), torch.empty_like(x)

        def done(work):
            work()
            torch.cuda.synchronize()

        ways = {"*limit: `b.copy_(a)`*": lambda x=x, room=room: done(lambda: room.copy_(x)),
                "**whydiff, deciding figures**": lambda x=x, y=y: done(lambda: compare(x, y, deciding=True)),
                "**whydiff, all figures**": lambda x=x, y=y: done(lambda: compare(x, y)),
                "torch, straightforward": lambda x=x, y=y: done(lambda: straightforward(x, y)),
                "`torch.testing.assert_close`": lambda x=x, y=y: done(lambda: torch.testing.assert_close(x, y, rtol=1, atol=1))}  # fmt: skip
        rows += [row[:-1] for row in _rows(f"{str(dtype)[6:]}, {torch.cuda.get_device_name()}", x, y, ways)]
    return table(["", "", "GB/s", "of the limit", "times the straightforward torch"], rows)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true", help="put the tables into docs/performance.md")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--elements", type=int, default=1 << 25)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    given = parser.parse_args()
    if given.device == "cuda":
        show("one_pass_cuda", cuda(given.elements * 8), given.write)
    else:
        found = [cpu(given.elements, threads) for threads in given.threads]
        show("one_pass", "\n\n".join([*found, types_and_strides(given.elements)]), given.write)


if __name__ == "__main__":
    main()
