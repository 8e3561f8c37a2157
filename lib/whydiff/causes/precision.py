"""Is the difference what a lower precision costs? Measured with a twin: the reference itself, cast to that type."""

from __future__ import annotations

import torch

from whydiff.causes.finding import Explanation, Finding, number
from whydiff.evidence.floor import STANDS_OUT

# A twin's loss is one draw of rounding errors, and so is the candidate's; two draws of one size differ by less than
# this factor (docs/decisions/0002-noise-floor.md).
SAME_SIZE = 4.0
FEWEST = 32  # values that do not all end in 13 or 16 zero bits by chance

NAMES = {"bfloat16": torch.bfloat16, "bf16": torch.bfloat16, "float16": torch.float16, "fp16": torch.float16, "half": torch.float16,
         "float32": torch.float32, "fp32": torch.float32}  # fmt: skip
# Kernels that a side may declare round like these types: TF32 keeps 10 bits of mantissa as float16 does.
KERNELS = {"tf32": torch.float16, "attention": torch.float16, "compile": torch.float16}
APPROXIMATE = ("quantization", "cache")


def accepted(finding: Finding, lab) -> bool:
    """True when the finding is no more than a precision that is declared, or already named as a cause, costs here."""
    if finding.difference is None:
        return False
    for dtype, stage in lab.named_dtypes:
        shown = any(lower_precision(side[finding.place]) == dtype for side in (finding.reference, finding.candidate) if finding.place in side)
        # A text encoder's type says nothing of the network's, unless the network's values show it.
        if (stage != "prompt_encoding" or finding.place.stage == stage or shown) and _within(finding, lab, dtype):
            if stage != finding.place.stage:
                lab.named_dtypes.append((dtype, finding.place.stage))
            return True
    for what, dtype in declared(lab):
        if dtype is None:
            covered = finding.place.stage in ("model_forward", "guidance")
        else:
            covered = _within(finding, lab, dtype)
        if covered:
            lab.declared.append(finding.place.to_dict() | {"what": what, "difference": finding.difference})
            return True
    return False


def declared(lab) -> list[tuple[str, torch.dtype | None]]:
    """What the sides declare, each with the type whose rounding it costs (None: an approximation without a bound)."""
    found = []
    for side in lab.case.sides().values():
        for key, value in side.declared.items():
            for word in value.values() if isinstance(value, dict) else (value,):
                if key in lab.ignored:
                    continue
                if key == "dtype":
                    if (dtype := NAMES.get(str(word).removeprefix("torch."))) not in (None, torch.float32):
                        found.append((f"dtype {word}", dtype))
                elif key in KERNELS and word not in (False, "false", "off", "none"):
                    found.append((f"{key} {word}", KERNELS[key]))
                elif key in APPROXIMATE and word not in (False, "false", "off", "none"):
                    found.append((f"{key} {word}", None))
    return found


def _within(finding: Finding, lab, dtype: torch.dtype) -> bool:
    return _no_more_than(finding, [lab.twin_loss(place, dtype) for place in finding.places], dtype)


def _no_more_than(finding: Finding, losses: list[float | None], dtype: torch.dtype) -> bool:
    floor = 0.5 * torch.finfo(dtype).eps  # at least the rounding of the value itself
    return finding.difference <= SAME_SIZE * max([floor, *(loss for loss in losses if loss is not None)])


def lower_precision(tensor: torch.Tensor) -> torch.dtype | None:
    """The 16-bit type whose values a tensor holds exactly, or None: full precision, integers, or too few values to tell."""
    if tensor.dtype in (torch.bfloat16, torch.float16):
        return tensor.dtype
    if not tensor.is_floating_point() or tensor.numel() < FEWEST or not tensor.frac().any():
        return None
    for dtype in (torch.bfloat16, torch.float16):
        if torch.equal(tensor.to(dtype).to(tensor.dtype), tensor):
            return dtype
    return None


def explain(finding: Finding, lab) -> list[Explanation]:
    """One side holds 16-bit values where the other holds wider ones, and the other cast to that type is as far from itself as
    the two are from each other: the type accounts for the difference."""
    if finding.place not in finding.candidate or finding.difference is None:
        return []
    values = {"reference": finding.reference[finding.place], "candidate": finding.candidate[finding.place]}
    types = {role: lower_precision(value) for role, value in values.items()}
    for role, other in (("candidate", "reference"), ("reference", "candidate")):
        coarse = types[role]
        if coarse is None or coarse == types[other]:
            continue
        losses = [lab.twin_loss(place, coarse, other) for place in finding.places]
        if losses[0] is not None and _no_more_than(finding, losses, coarse):
            lab.named_dtypes.append((coarse, finding.place.stage))
            return [_cast(finding, role, coarse, values[other].dtype, losses[0])]
    return []


def _cast(finding: Finding, role: str, coarse: torch.dtype, fine: torch.dtype, loss: float) -> Explanation:
    other = "reference" if role == "candidate" else "candidate"
    word, usual = (str(t).removeprefix("torch.") for t in (coarse, fine))
    stage = finding.place.stage
    return Explanation(
        id="undeclared-dtype", stage=stage, equivalent=["text-encoder-precision"] if stage == "prompt_encoding" else [], departs=role,
        statement=f"{role} computes {finding.probe} in {word}, the {other} in {usual}; neither side declares it",
        relation={"kind": "dtype", other: usual, role: word, "twin_difference": loss},
        explained=min(1.0, (loss / finding.difference) ** 2),
        experiment=f"ran the {other} in {word}: it departs from itself by {number(float(f'{loss:.2g}'))} here, as far as the {role} does",
        dtype=fine if role == "candidate" else coarse, fix=f"declare dtype {word} for the {role}, or run it in {usual}")  # fmt: skip


def explain_stored(finding: Finding, lab) -> list[Explanation]:
    """`explain`, for tensors that are stored in a 16-bit type, and not only hold its values: the whole side runs in it."""
    tensor = finding.candidate.get(finding.place)
    return explain(finding, lab) if tensor is not None and tensor.dtype in (torch.bfloat16, torch.float16) else []


def explain_rounded(finding: Finding, lab) -> list[Explanation]:
    """One side's values are the other's, rounded once to a 16-bit type: they are kept in it, whatever computes them.

    Arithmetic in that type errs by more than one rounding, and another bug by more still; so nothing else passes.
    """
    if finding.difference is None or any(place not in finding.candidate for place in finding.places):
        return []
    for role, coarse, fine in (("candidate", finding.candidate, finding.reference), ("reference", finding.reference, finding.candidate)):
        dtypes = {lower_precision(coarse[place]) for place in finding.places}
        if len(dtypes) != 1 or None in dtypes:
            continue
        [dtype] = dtypes
        if any(lower_precision(fine[place]) == dtype or not _rounded_once(fine[place], coarse[place], dtype, finding.floor)
               for place in finding.places):  # fmt: skip
            continue
        other = "reference" if role == "candidate" else "candidate"
        word, usual = (str(t).removeprefix("torch.") for t in (dtype, fine[finding.place].dtype))
        return [Explanation(
            id="undeclared-dtype", stage=finding.place.stage, departs=role,
            statement=f"{role}'s {finding.probe} are rounded to {word}, the {other}'s are kept in {usual}; neither side declares it",
            relation={"kind": "dtype", role: word, other: usual}, explained=1.0,
            experiment=f"rounded the {other}'s {finding.probe} to {word}: equals the {role}'s at {len(finding.places)} places",
            fix=f"keep {finding.probe} in {usual} in the {role}, or declare dtype {word}")]  # fmt: skip
    return []


def _rounded_once(fine: torch.Tensor, coarse: torch.Tensor, dtype: torch.dtype, floor: float) -> bool:
    """Is each value no further from its partner than half a step of `dtype`, give or take the floor?"""
    a, b = fine.double(), coarse.double()
    if not bool(a.isfinite().all() and b.isfinite().all()):
        return False
    # One step of the grid at the larger of two partners: eps times the power of two below it.
    step = torch.finfo(dtype).eps * torch.exp2(torch.maximum(a.abs(), b.abs()).clamp(min=torch.finfo(dtype).tiny).log2().floor())
    slack = STANDS_OUT * floor * float(a.square().mean().sqrt())
    return bool(((a - b).abs() <= 0.5 * step + slack).all())
