"""Weights, buffers or scales that running a side changes: put back, its first result must come back."""

from __future__ import annotations

import contextlib

import torch

from whydiff.causes.finding import Explanation
from whydiff.causes.leaks.leak import Leak, apart, cause
from whydiff.measure.compare import relative_l2

ROUNDING = 2.0**-7  # relative size of one rounding to bfloat16, the coarsest type in which adapters are fused


def explain(leak: Leak, lab) -> Explanation | None:
    """Weights or buffers changed while it ran. Put back from the other side, the first result must come back."""
    names = [name for name in leak.changed if not name.startswith("call.")]
    if not names:
        return None
    sizes = _put_back_sizes(leak.role, names, lab)
    if sizes is None:
        return None
    with _put_back(leak.role, names, lab):
        once_more = lab.run(leak.role)
    if apart(lab, leak, once_more, leak.place):
        return None
    scales = all("scale" in name.rpartition(".")[2] for name in names)
    small = max(sizes) <= ROUNDING
    id_ = "quant-scale-overwritten" if scales else "lora-unfuse-residual" if small else "offload-corrupts-weights"
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return cause(leak, id_, f"running it changes {shown} (relative change {max(sizes):.2g})",
                 "put these tensors back as the other side has them: the request gives its first result again",
                 "keep what is computed while running apart from the weights, and restore them from the file",
                 {"kind": "weights", "names": names[:16], "relative_change": max(sizes)},
                 ("inplace-modification", "quant-scale-overwritten", "lora-unfuse-residual", "offload-corrupts-weights"))  # fmt: skip


def _tensors(side, names: list[str]) -> dict[str, torch.Tensor]:
    held = {}
    for component, root in side.components.items():
        if isinstance(root, torch.nn.Module):
            held |= {f"{component}/{n}": t for n, t in (*root.named_parameters(), *root.named_buffers())}
    return {name: held[name] for name in names if name in held}


def _put_back_sizes(role: str, names: list[str], lab) -> list[float] | None:
    """How far each changed tensor is from the other side's of that name; None where the other side does not have them all."""
    other = lab.sides["reference" if role == "candidate" else "candidate"]
    if other is None:
        return None
    mine, theirs = _tensors(lab.sides[role], names), _tensors(other, names)
    if set(mine) != set(names) or set(theirs) != set(names) or any(mine[n].shape != theirs[n].shape for n in names):
        return None
    return [relative_l2(theirs[n].detach(), mine[n].detach()) for n in names]


@contextlib.contextmanager
def _put_back(role: str, names: list[str], lab):
    other = lab.sides["reference" if role == "candidate" else "candidate"]
    mine, theirs = _tensors(lab.sides[role], names), _tensors(other, names)
    kept = {name: tensor.data for name, tensor in mine.items()}
    try:
        for name, tensor in mine.items():
            tensor.data = theirs[name].detach().to(tensor, copy=True)
        yield
    finally:
        for name, tensor in mine.items():
            tensor.data = kept[name]
