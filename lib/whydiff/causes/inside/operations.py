"""Does one of the known variants of one torch function, applied on one side, reproduce what the other side puts out?"""

from __future__ import annotations

import contextlib
import functools
import time

import torch

from whydiff.causes.finding import Explanation, Finding
from whydiff.causes.inside import roles, submodules
from whydiff.causes.inside.functions import OURS, Seen, watched, with_variant
from whydiff.causes.inside.inside import Inside
from whydiff.causes.inside.variants import VARIANTS
from whydiff.causes.inside.variants_attention import of_inputs
from whydiff.causes.inside.variants_made import Variant, computed_in
from whydiff.evidence.recording.calls import distance

SECONDS = 5.0  # of this thread, for one module and side; the likeliest variants come first
MOST_FUNCTIONS = 400  # a module that calls more than this is a network by itself, and its inner modules were looked at

OTHER = {"reference": "candidate", "candidate": "reference"}


def explain(inside: Inside, finding: Finding, lab) -> Explanation | None:
    """The first variant that reproduces, on the reference first: then it is the candidate that departs."""
    if not inside.can_run:
        return None
    found = submodules.explain(inside, lab)
    if found is not None:
        return found
    for role in ("reference", "candidate"):
        match = _search(inside, role, time.thread_time() + SECONDS)
        if match is None:
            continue
        variant, calls = match
        id_, equivalent = _name(inside, role, variant, calls)
        what, where = _called(calls[0])
        if id_ is None:
            inside.found = f"{OTHER[role]}'s module computes what the {role}'s does when{where} {variant.words}"
            return None
        other = OTHER[role]
        departs = "unknown" if role == "candidate" and _undoes_itself(inside, role, variant, calls) else other
        done = calls[0].name if what else "what is computed"
        return Explanation(
            id=id_, statement=f"in {inside.names[other]}, the {other} differs from the {role} as if{what} {variant.words}",
            relation={"kind": "operation", "function": calls[0].name, "variant": variant.words, "departs": departs}, explained=1.0,
            experiment=f"ran the {role}'s {inside.names[role]} on the same inputs so that{where} {variant.words}: "
                       f"it puts out what the {other}'s does", departs=departs, equivalent=list(equivalent), module=inside.name,
            fix=f"make {done} in {inside.names[other]} of the {other} as in the {role}" if departs != "unknown" else
                f"make {done} the same in {inside.names['reference']} and in {inside.names['candidate']}")  # fmt: skip
    return None


def _undoes_itself(inside: Inside, role: str, variant: Variant, calls: list[Seen]) -> bool:
    """Is a variant its own opposite (an exchange, a sign)? Then that it turns one side into the other says nothing of who is right."""
    chosen = {call.index for call in calls}

    def twice(function, *args, **kwargs):
        once = functools.wraps(function)(lambda *a, **k: variant.apply(function, *a, **k))  # some look at the function's name
        return variant.apply(once, *args, **kwargs)

    after = with_variant(lambda: inside.run(role), lambda i, n, s: twice if i in chosen else None)
    return after is not None and distance(inside.outputs()[role], after) <= inside.tolerance


def _called(call: Seen) -> tuple[str, str]:
    """(", in linear,", ", in linear (embeddings.py, line 12),"); nothing where the variant begins with what the module receives."""
    if call.site[0].startswith(OURS):
        return "", ""
    return f", in {call.name},", f", in {call.name} ({call.site[0].rsplit('/', 1)[-1]}, line {call.site[1]}),"


def _search(inside: Inside, role: str, until: float) -> tuple[Variant, list[Seen]] | None:
    target = inside.outputs()[OTHER[role]]
    seen = watched(lambda: inside.run(role))
    if len(seen) > MOST_FUNCTIONS:
        return None
    for variant, calls in trials(seen, inside):
        if time.thread_time() > until:
            inside.found = inside.found or f"not all variants of {inside.name} were tried: time was up"
            return None
        chosen = {call.index for call in calls}
        after = with_variant(lambda: inside.run(role), lambda i, n, s: variant.apply if i in chosen else None)  # noqa: B023
        if after is not None and inside.closes(target, after):
            return variant, calls
    return None


def trials(seen: list[Seen], inside: Inside):
    """(variant, calls) to try: for each variant, the calls of each line of code together, then one by one, then all."""
    yield from _whole(seen)
    for variant in sorted((*VARIANTS, *of_inputs(inside, seen)), key=lambda v: v.order):
        calls = [c for c in seen if c.name in variant.functions] if variant.functions else seen
        tried = set()
        for group in _groups(calls, bool(variant.functions)):
            key = tuple(c.index for c in group)
            if key not in tried:
                tried.add(key)
                yield variant, group


def _groups(calls: list[Seen], together: bool):
    sites: dict[tuple[str, int], list[Seen]] = {}
    for call in calls:
        sites.setdefault(call.site, []).append(call)
    yield from sites.values()
    yield from ([call] for call in calls)
    if together and len(sites) > 1:
        yield calls


def _whole(seen: list[Seen]):
    """Everything the module computes in a lower type."""
    for dtype in (torch.bfloat16, torch.float16):
        word = str(dtype).removeprefix("torch.")
        calls = [c for c in seen if isinstance(c.result, torch.Tensor) and c.result.is_floating_point()]
        if calls:
            yield Variant((), f"everything is computed in {word}", "whole", _tolerant(computed_in(dtype)), 0), calls


def _tolerant(apply):
    def or_plain(function, *args, **kwargs):
        with contextlib.suppress(TypeError, RuntimeError):
            return apply(function, *args, **kwargs)
        return function(*args, **kwargs)

    return or_plain


def _two_parts(call: Seen) -> bool:
    return isinstance(call.result, (tuple, list)) and len(call.result) == 2


def _attends(inside: Inside, role: str) -> bool:
    """Two parts of one tensor are keys and values where attention follows, and gate and value where none does."""
    return any(call.name in ("scaled_dot_product_attention", "softmax", "baddbmm", "bmm") for call in watched(lambda: inside.run(role)))


def _name(inside: Inside, role: str, variant: Variant, calls: list[Seen]) -> tuple[str | None, tuple[str, ...]]:
    """The catalogue id of a variant in a module of this role; None where it has none."""
    call = calls[0]
    if variant.id in ("whole", "rounding"):
        return roles.low_precision_id(inside, variant.id == "whole" or "computed" in variant.words, call.name) or (None, ())
    if variant.id == "parts-exchanged":
        if roles.makes_modulation(inside) or call.shapes and _vectors(call.shapes[0]):
            return "adaln-shift-scale-swapped", ()
        return ("gate-up-swapped", ()) if _two_parts(call) and not _attends(inside, role) else (None, ())
    if variant.id == "norm-eps":
        if not _sums_squares(call):
            return None, ()
        return ("text-encoder-norm-eps", ("norm-eps",)) if inside.stage == "prompt_encoding" else ("norm-eps", ())
    if variant.id == "parallel-config-not-propagated" and inside.stage != "model_forward":
        return None, ()
    if variant.id == "groupnorm-per-tile" and inside.stage != "vae":
        return None, ()
    if variant.id in ("decoder-upsample-mode", "encoder-downsample-padding") and inside.stage != "vae":
        return None, ()
    if variant.id == "sp-concat-order" and not _joins_tokens(call):
        return None, ()
    if variant.id is None and "first operand" in variant.words and _is_mask(call):
        return "attention-mask-dropped", ()
    return variant.id, variant.equivalent


def _joins_tokens(call: Seen) -> bool:
    """Sequences are put one behind the other; along the last axis features are, such as sines and cosines."""
    dim = call.kwargs.get("dim", call.args[1] if len(call.args) > 1 else 0)
    return isinstance(call.result, torch.Tensor) and call.result.dim() > 1 and dim % call.result.dim() != call.result.dim() - 1


def _vectors(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 or (len(shape) == 3 and shape[1] == 1)


def _sums_squares(call: Seen) -> bool:
    """An epsilon is added to what has one value per row, a mean of squares."""
    return call.name not in ("add", "__add__", "__radd__") or any(shape and shape[-1] == 1 for shape in call.shapes)


def _is_mask(call: Seen) -> bool:
    second = call.args[1] if len(call.args) > 1 else None
    if not isinstance(second, torch.Tensor) or not second.is_floating_point():
        return False
    return bool(((second == 0) | (second < -1e3)).all() and (second < -1e3).any())
