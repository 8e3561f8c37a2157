"""What goes on inside a text encoder: values that overflow, modules that must stay in float32, tables that layers share.

Each experiment changes the state of a live encoder for one run and asks whether the other side's embeddings come out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from whydiff.causes.finding import Explanation, Finding, explained_share
from whydiff.causes.prompt.encoder import OTHER, encode, encoders

HALF = (torch.float16, torch.bfloat16)


def exempt_lost(finding: Finding, lab) -> list[Explanation]:
    """`fp32-exempt-modules-lost`: modules that are float32 on one side and half on the other, in encoders that are half elsewhere."""
    for role in ("candidate", "reference"):
        side, other = lab.sides[role], lab.sides[OTHER[role]]
        for name, root in encoders(side).items() if side is not None else ():
            counterpart = encoders(other).get(name) if other is not None else None
            kept = _kept(root, counterpart)
            if not kept:
                continue
            # float32 weights come from the other side where it has them; otherwise its own are widened.
            with _weights(kept):
                again = encode(lab, role, finding)
            if not _makes(finding, lab, role, again):
                continue
            names = sorted({path.rsplit(".", 1)[-1] for path, _, _ in kept})
            word = str(next(iter(kept))[1].dtype).removeprefix("torch.")
            return [Explanation(
                id="fp32-exempt-modules-lost", departs=role, explained=_share(finding, role, again), module=f"{name}/{kept[0][0]}",
                statement=f"{len(kept)} modules of the {role}'s {name} ({', '.join(names)}) are {word}, which the other side keeps in float32",
                relation={"kind": "dtype", "modules": len(kept), "names": names, role: word, OTHER[role]: "float32"},
                experiment=f"ran the {role}'s {name} with these modules in float32: {finding.probe} is the {OTHER[role]}'s",
                fix=f"load the {role}'s {name} in {word} with from_pretrained(dtype=...), which keeps {', '.join(names)} in float32, instead of "
                    "casting the whole module afterwards", equivalent=_overflow(finding, role))]  # fmt: skip
    return []


def _kept(root, counterpart) -> list[tuple[str, torch.nn.Parameter, torch.Tensor]]:
    """(module, its half-precision parameter, the float32 values it should have)."""
    own = dict(root.named_parameters())
    if not any(p.dtype in HALF for p in own.values()):
        return []
    theirs = dict(counterpart.named_parameters()) if counterpart is not None else {}
    if theirs and any(p.dtype in HALF for p in theirs.values()):
        return [(n.rpartition(".")[0], p, theirs[n].detach().to(p.device)) for n, p in own.items()
                if n in theirs and p.dtype in HALF and theirs[n].dtype == torch.float32 and theirs[n].shape == p.shape]  # fmt: skip
    # No half-precision counterpart to read it from: the model's class says which modules it keeps in float32.
    named = getattr(root, "_keep_in_fp32_modules", None) or ()
    return [(n.rpartition(".")[0], p, p.detach().float()) for n, p in own.items()
            if p.dtype in HALF and any(part in named for part in n.split("."))]  # fmt: skip


@contextlib.contextmanager
def _weights(kept) -> Iterator[None]:
    """Parameters with other values (and another type) for as long as the context lasts."""
    before = [(p, p.data) for _, p, _ in kept]
    try:
        for _, p, values in kept:
            p.data = values
        yield
    finally:
        for p, data in before:
            p.data = data


def nonfinite(finding: Finding, lab) -> list[Explanation]:
    """`text-encoder-nonfinite`: NaN or infinite embeddings on one side; a live encoder is run again in float32."""
    for role in ("candidate", "reference"):
        mine = [getattr(finding, role)[p] for p in finding.places if p in finding.candidate]
        theirs = [getattr(finding, OTHER[role])[p] for p in finding.places if p in finding.candidate]
        bad = sum(int((~t.isfinite()).sum()) for t in mine)
        if not bad or not all(t.isfinite().all() for t in theirs):
            continue
        side, said, module, share = lab.sides[role], "counted the non-finite values of both sides", None, 1.0
        dtypes = {str(t.dtype).removeprefix("torch.") for t in mine}
        if side is not None:
            module, dtypes = _first_nonfinite(finding, lab, role)
            again = _in_float32(finding, lab, role)
            if not again or not all(t.isfinite().all() for t in again):
                return []  # not a matter of range: something else makes it
            said = f"ran the {role}'s text encoders in float32: every value of {finding.probe} is finite"
            if lab.closes(finding, theirs[0], again[0].to(theirs[0].dtype)):
                said += f" and the {OTHER[role]}'s"
        where = f"; the first module that puts them out is {module}" if module else ""
        return [Explanation(
            id="text-encoder-nonfinite", departs=role, explained=share, module=module,
            statement=f"{bad} of {sum(t.numel() for t in mine)} values of the {role}'s {finding.probe} are NaN or infinite "
                      f"(computed in {', '.join(sorted(dtypes))}){where}",
            relation={"kind": "nonfinite", role: bad, OTHER[role]: 0, "of": sum(t.numel() for t in mine), "dtype": sorted(dtypes)},
            experiment=said, fix=f"run the {role}'s text encoder in float32 or bfloat16, whose range holds these values",
            equivalent=["fp32-exempt-modules-lost"] if side is None else [])]  # fmt: skip
    return []


def _first_nonfinite(finding: Finding, lab, role: str) -> tuple[str | None, set[str]]:
    """The innermost module that is the first to put out a non-finite value, and the types it computes in."""
    seen: list[tuple[str, torch.dtype]] = []
    with contextlib.ExitStack() as stack:
        for name, root in encoders(lab.sides[role]).items():
            for dotted, module in root.named_modules():
                def hook(_module, _args, output, where=f"{name}/{dotted}" if dotted else name):
                    value = output[0] if isinstance(output, (tuple, list)) and output else output
                    # Masks hold -inf on purpose; what a weightless module hands on was made elsewhere.
                    if not seen and isinstance(value, torch.Tensor) and value.is_floating_point() and not value.isfinite().all():
                        seen.append((where, value.dtype))

                if any(True for _ in module.parameters()):
                    stack.callback(module.register_forward_hook(hook).remove)
        encode(lab, role, finding)
    types = {str(p.dtype).removeprefix("torch.") for root in encoders(lab.sides[role]).values() for p in root.parameters()}
    return (seen[0][0] if seen else None), ({str(seen[0][1]).removeprefix("torch.")} if seen else types)


def _in_float32(finding: Finding, lab, role: str) -> list[torch.Tensor]:
    """The finding's embeddings with this side's text encoders in float32, as they leave the encoders' pipeline."""
    parameters = [p for root in encoders(lab.sides[role]).values() for p in root.parameters() if p.dtype in HALF]
    buffers = [(m, n, b) for root in encoders(lab.sides[role]).values() for m in root.modules() for n, b in m._buffers.items()
               if b is not None and b.dtype in HALF]  # fmt: skip
    try:
        with _weights([("", p, p.detach().float()) for p in parameters]):
            for module, name, buffer in buffers:
                module._buffers[name] = buffer.float()
            again = encode(lab, role, finding)
    finally:
        for module, name, buffer in buffers:
            module._buffers[name] = buffer
    return [again[p] for p in finding.places if p in again]


def shared_tables(finding: Finding, lab) -> list[Explanation]:
    """`relative-bias-sharing`: the first block's table of relative positions is used in every block of one side.

    T5 has one table, in its first block (Raffel et al. 2020, arXiv 1910.10683, section 2.1); UMT5 has one in each block
    (Chung et al. 2023, arXiv 2304.09151). Blocks' embedding tables of equal name and shape are tried.
    """
    for role in ("reference", "candidate"):
        side = lab.sides[role]
        for name, root in encoders(side).items() if side is not None else ():
            for group in _tables(root):
                first = group[0][1].weight
                if all(torch.equal(module.weight, first) for _, module in group):
                    continue
                with _weights([(path, module.weight, first.detach()) for path, module in group[1:]]):
                    again = encode(lab, role, finding)
                if not _makes(finding, lab, role, again):
                    continue
                other = OTHER[role]
                return [Explanation(
                    id="relative-bias-sharing", departs="unknown", explained=_share(finding, role, again), module=f"{name}/{group[1][0]}",
                    statement=f"the {other} uses the first block's {group[0][0].rpartition('.')[2]} in all {len(group)} blocks of {name}; "
                              f"each block of the {role} has its own",
                    relation={"kind": "shared", "module": group[0][0].rpartition(".")[2], "blocks": len(group), "side": other},
                    experiment=f"ran the {role}'s {name} with the first block's table in every block: it makes the {other}'s {finding.probe}",
                    fix=f"give each block of the {other}'s {name} the table of its own that the checkpoint has")]  # fmt: skip
    return []


def _tables(root) -> list[list[tuple[str, torch.nn.Embedding]]]:
    """Embedding tables that blocks of one list hold under the same name, in order: [[("block.0.bias", table), ...], ...]."""
    groups: dict[tuple, list[tuple[str, torch.nn.Embedding]]] = {}
    for path, blocks in root.named_modules():
        if isinstance(blocks, torch.nn.ModuleList):
            for i, block in enumerate(blocks):
                for inner, module in block.named_modules():
                    if isinstance(module, torch.nn.Embedding):
                        groups.setdefault((path, inner, module.weight.shape), []).append((f"{path}.{i}.{inner}", module))
    return [group for group in groups.values() if len(group) > 1]


def _makes(finding: Finding, lab, role: str, again) -> bool:
    """Does the changed run of `role` make the other side's embeddings at every place of the finding?"""
    target = getattr(finding, OTHER[role])
    places = [p for p in finding.places if p in target]
    return bool(places) and all(p in again and again[p].shape == target[p].shape and lab.closes(finding, target[p], again[p]) for p in places)


def _share(finding: Finding, role: str, again) -> float:
    target, own = getattr(finding, OTHER[role]), getattr(finding, role)
    return min(explained_share(target[p], own[p], again[p]) if own[p].isfinite().all() else 1.0 for p in finding.places if p in target)


def _overflow(finding: Finding, role: str) -> list[str]:
    values = getattr(finding, role)
    return ["text-encoder-nonfinite"] if any(not values[p].isfinite().all() for p in finding.places if p in values) else []
