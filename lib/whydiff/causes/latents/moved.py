"""The same values in another order: axes exchanged, channels permuted, patches packed differently."""

from __future__ import annotations

import torch
from torch import Tensor

from whydiff.causes.finding import Explanation, Finding
from whydiff.causes.noise.items import LEAST_PREFIX
from whydiff.errors import Trouble
from whydiff.measure.layouts import TOKEN_ORDERS, find_layout, packing
from whydiff.measure.relations import find_relation

MOST_CHANNELS = 512


def explain(finding: Finding, lab) -> list[Explanation]:
    """`latent-transposed`, `patch-pack-order` or `latent-channel-order`, if one rearrangement does for every place."""
    pairs = finding.pairs
    if not pairs or not all(_same_values(a, b) for a, b in pairs):
        return []
    found = rearrangement(*pairs[0])
    if found is None:
        return []
    id_, words, relation, undo = found
    if not all(a.shape == pairs[0][0].shape and lab.closes(finding, b, undo(a)) for a, b in pairs):
        return []
    fix = {"latent-transposed": "exchange the axes back where the candidate lays out its latents",
           "patch-pack-order": "pack and unpack 2x2 patches in the same order on both sides",
           "latent-channel-order": "put the latent channels in the order that the model and its VAE were trained with"}[id_]  # fmt: skip
    return [Explanation(
        id=id_, stage="latent_handling", statement=f"candidate's {finding.probe} holds the reference's values, {words}", relation=relation,
        explained=1.0, experiment=f"laid out the reference's {finding.probe} that way: equals the candidate's at {len(pairs)} place(s)",
        fix=fix, departs="unknown", equivalent=_drawn_so(finding, id_, *pairs[0]))]  # fmt: skip


def _drawn_so(finding: Finding, id_: str, reference: Tensor, candidate: Tensor) -> list[str]:
    """A draw whose beginning agrees and whose later blocks changed places: two GPUs of other sizes do the same to one stream."""
    if finding.probe != "initial_noise" or id_ != "latent-channel-order":
        return []
    apart = (reference.flatten() != candidate.to(reference.dtype).flatten()).nonzero()
    return ["gpu-randn-hardware-dependent"] if len(apart) and int(apart[0]) >= LEAST_PREFIX else []


def rearrangement(reference: Tensor, candidate: Tensor):
    """(id, words, relation, function from reference to candidate) of the plainest rearrangement, or None."""
    a, b = reference.detach().cpu(), candidate.detach().cpu()
    moved = _axes(a, b) or _patches(a, b) or _channels(a, b)
    return moved


def _axes(a: Tensor, b: Tensor):
    try:
        relation = find_relation(a, b)
    except Trouble:
        return None
    if relation is not None and relation.kind == "transposed" and 0 not in [i for i, p in enumerate(relation.parameters["axes"]) if i != p]:
        axes = relation.parameters["axes"]
        return "latent-transposed", f"with its axes in the order {axes}", {"kind": "transposed", "axes": axes}, lambda x: x.permute(axes)
    if a.ndim == 3:  # tokens: another order of the grid, or inside the tokens
        layout = find_layout(b, a)  # from the reference's to the candidate's
        if layout is not None and not layout.trivial:
            # a grid read column by column moves tokens; another order inside them leaves tokens where they are
            tokens = not _columns_equal(a, b)
            id_ = "latent-transposed" if tokens and "ph" not in layout.name else "patch-pack-order"
            return id_, f"laid out as '{layout.name}'", {"kind": "layout", "layout": layout.name}, layout.apply
    return None


def _columns_equal(a: Tensor, b: Tensor) -> bool:
    """Does each token hold the same values, in whatever order?"""
    return torch.equal(a.sort(-1).values, b.sort(-1).values)


def _patches(a: Tensor, b: Tensor):
    """(B, C, [T,] H, W) packed in one order of patches and unpacked in another."""
    if a.ndim not in (4, 5) or a.shape[-1] % 2 or a.shape[-2] % 2:
        return None
    shape = tuple(a.shape)
    frames = shape[2] if a.ndim == 5 else 1
    packed = (shape[0], frames * shape[-2] * shape[-1] // 4, 4 * shape[1])
    for first in TOKEN_ORDERS:
        for second in TOKEN_ORDERS:
            for sequences in (("h w", "h w"), ("h w", "w h")):
                if first == second and sequences[0] == sequences[1]:
                    continue
                pack, unpack = packing(shape, packed, first, sequences[0]), packing(shape, packed, second, sequences[1])
                made = unpack.apply(pack.invert(a))
                if torch.equal(made, b):
                    words = f"with 2x2 patches packed as ({first}) and read as ({second})"
                    return ("patch-pack-order", words, {"kind": "packed", "packed": first, "read": second},
                            lambda x, p=pack, u=unpack: u.apply(p.invert(x)))  # fmt: skip
    return None


def _channels(a: Tensor, b: Tensor):
    """Channels in another order: axis 1 of latents, the last of tokens."""
    axis = 1 if a.ndim in (4, 5) else a.ndim - 1
    if a.ndim < 3 or not 2 <= a.shape[axis] <= MOST_CHANNELS:
        return None
    order = matched(a, b, axis)
    if order is None:
        return None
    id_, size = "latent-channel-order", a.shape[axis]
    for first in TOKEN_ORDERS:
        for second in TOKEN_ORDERS:
            if size % 4 == 0 and order == _packed(size, first, second):
                id_ = "patch-pack-order"
    index = torch.tensor(order)
    shown = f"{order[:16]}{' ...' if size > 16 else ''}"
    return id_, f"its channels in the order {shown}", {"kind": "permuted", "axis": axis, "order": order[:64]}, \
        lambda x: x.index_select(axis, index)  # fmt: skip


def matched(a: Tensor, b: Tensor, axis: int) -> list[int] | None:
    """For each channel of b the channel of a that equals it; None unless that is one to one and no channel stayed everywhere."""
    rows = {}
    for i, part in enumerate(a.unbind(axis)):
        rows.setdefault(part.contiguous().flatten().numpy(force=True).tobytes() if part.dtype != torch.bfloat16
                        else part.float().contiguous().flatten().numpy().tobytes(), []).append(i)  # fmt: skip
    order = []
    for part in b.unbind(axis):
        key = part.float().contiguous().flatten().numpy().tobytes() if part.dtype == torch.bfloat16 \
            else part.contiguous().flatten().numpy(force=True).tobytes()  # fmt: skip
        if not rows.get(key):
            return None
        order.append(rows[key].pop(0))
    return order if order != list(range(len(order))) else None


def _packed(size: int, first: str, second: str) -> list[int]:
    """How channels packed as `first` must be picked to stand as `second`."""
    sizes = {"c": size // 4, "ph": 2, "pw": 2}
    names, wanted = first.split(), second.split()
    index = torch.arange(size).reshape([sizes[n] for n in names]).permute([names.index(n) for n in wanted])
    return index.flatten().tolist()


def _same_values(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.is_floating_point() and torch.equal(a.flatten().sort().values, b.to(a.dtype).flatten().sort().values)
