"""Rotary positions that turn halves of a head on one side and adjacent pairs on the other.

Both conventions rotate pairs of channels by the same angles: (i, i + d/2) in the one, (2i, 2i + 1) in the other (RoFormer,
Su et al. 2021, arXiv 2104.09864, equation 34, pairs neighbours; GPT-NeoX and what follows it pairs halves). Attention sees
queries and keys only through their products, which do not change when the channels of both are put into another order. So
one convention is the other one with the channels of each head rearranged before they are rotated, however that is coded.
"""

from __future__ import annotations

import contextlib
import re

import torch

from whydiff.causes.finding import Explanation, Finding
from whydiff.causes.inside.functions import watched, with_variant
from whydiff.causes.inside.inside import Inside

OTHER = {"reference": "candidate", "candidate": "reference"}
WORDS = {"halves": "halves of each head", "pairs": "adjacent pairs of channels"}
# The last module that makes queries or keys: a norm where there is one, else the projection.
NORMS = r"(?i)(^|[._])(norm_(added_)?[qk]|[qk]_?(layer)?norm|(query|key)_?norm)$"
PROJECTIONS = r"(?i)(^|[._])((to_|w|lin_|linear_)?[qk]|[qk]_?proj|(add_)[qk]_proj|query|key)$"


def explain(inside: Inside, finding: Finding, lab) -> Explanation | None:
    """A side's module turns the other side's output out when its heads are rotated by the other convention."""
    if not inside.can_run or inside.gap() == 0.0:
        return None
    for role in ("reference", "candidate"):
        makers = _makers(inside.modules[role])
        if not makers:
            continue
        target = inside.outputs()[OTHER[role]]
        for own, after in _other_conventions(inside, role, makers):
            if after is not None and inside.closes(target, after):
                return _named(inside, role, own)
    return None


def _named(inside: Inside, role: str, own: str) -> Explanation | None:
    departs, other = OTHER[role], "pairs" if own == "halves" else "halves"
    words = f"the {departs}'s {inside.names[departs]} rotates {WORDS[other]} where the {role}'s rotates {WORDS[own]}"
    if inside.stage != "prompt_encoding":
        inside.found = words
        return None
    return Explanation(
        id="text-encoder-rope-layout", statement=words, relation={"kind": "rope_layout", role: own, departs: other}, explained=1.0,
        departs=departs, module=inside.name,
        experiment=f"ran the {role}'s {inside.names[role]} on the same inputs with rotary positions applied to {WORDS[other]}: "
                   f"it puts out what the {departs}'s does",
        fix=f"rotate {WORDS[own]} in {inside.names[departs]} of the {departs}, as the {role} does, or rearrange the rows of its "
            "query and key projections")  # fmt: skip


def _makers(module: torch.nn.Module) -> list[torch.nn.Module]:
    """The modules that put out queries and keys, in pairs; none where names do not tell, or where these are several attentions."""
    for pattern in (NORMS, PROJECTIONS):
        found = [inner for name, inner in module.named_modules() if re.search(pattern, name)]
        if 2 <= len(found) <= 4 and len(found) % 2 == 0:
            return found
    return []


def _other_conventions(inside: Inside, role: str, makers: list[torch.nn.Module]):
    """(this side's convention, what it puts out by the other one)."""
    seen = watched(lambda: inside.run(role))
    if any(_is_rotated_half(call.name, call.args) for call in seen):
        # Neighbours rotated with a table laid out for halves, as code does that took only the function from elsewhere.
        yield "halves", with_variant(lambda: inside.run(role), lambda i, name, s: _pairs if name in ("cat", "concat", "concatenate") else None)
    sizes = _head_sizes(inside.modules[role], seen)
    for size in sizes:
        for part in (size, size // 2, size // 4):  # a part of each head may be rotated alone
            if part < 4 or part % 2:
                continue
            order = torch.arange(part).view(2, -1).T.flatten()  # 0, d/2, 1, d/2 + 1, ...
            yield "pairs", _rearranged(inside, role, makers, order, size)
            yield "halves", _rearranged(inside, role, makers, order.argsort(), size)


def _head_sizes(module: torch.nn.Module, seen) -> list[int]:
    """How many channels a head has: what the attention function gets, or what the module says."""
    found = [call.shapes[0][-1] for call in seen if call.name == "scaled_dot_product_attention" and call.shapes]
    found += [value for name in ("head_dim", "dim_head", "attention_head_dim") if isinstance(value := getattr(module, name, None), int)]
    found += [m.head_dim for m in module.modules() if isinstance(getattr(m, "head_dim", None), int)]
    return list(dict.fromkeys(found))[:2]


def _rearranged(inside: Inside, role: str, makers: list[torch.nn.Module], order: torch.Tensor, size: int):
    """What a side puts out with the first channels of each head of its queries and keys in another order."""

    def put(_module, _args, output):
        if not isinstance(output, torch.Tensor) or output.shape[-1] % size:
            raise TypeError("no heads of this size")
        heads = output.unflatten(-1, (-1, size)).clone()
        heads[..., : len(order)] = heads[..., order.to(output.device)]
        return heads.flatten(-2)

    handles = [module.register_forward_hook(put) for module in makers]
    try:
        with contextlib.suppress(RuntimeError, TypeError, ValueError, IndexError):
            return inside.run(role)
        return None
    finally:
        for handle in handles:
            handle.remove()


def _is_rotated_half(name: str, args) -> bool:
    """cat((-x2, x1), -1): the other half of each pair. That the first is a negated half shows in none of its values, so only
    the form is asked for here; what it makes decides."""
    if name not in ("cat", "concat", "concatenate") or not args or not isinstance(args[0], (tuple, list)) or len(args[0]) != 2:
        return False
    a, b = args[0]
    return isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) and a.dim() >= 3 and a.shape == b.shape and a.is_floating_point()


def _pairs(function, tensors, *args, **kwargs):
    """What stands in the place of `cat((-x2, x1), -1)` when neighbours are turned: (-x_1, x_0, -x_3, x_2, ...)."""
    joined = function(tensors, *args, **kwargs)
    dim = kwargs.get("dim", args[0] if args else 0)
    if not _is_rotated_half("cat", (tensors,)) or dim not in (-1, joined.dim() - 1) or torch.equal(*tensors):
        return joined  # two equal halves are a table
    x = torch.cat([tensors[1], -tensors[0]], -1)
    return torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
