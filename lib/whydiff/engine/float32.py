"""Agreement in 16 bit: what could hide below the rounding, and does anything show when both sides run in float32?"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch

from whydiff.causes import precision
from whydiff.engine.casting import cast
from whydiff.engine.lab import Lab
from whydiff.errors import Trouble
from whydiff.evidence.floor import STANDS_OUT
from whydiff.places import Place
from whydiff.verdict import describe

COARSE = (torch.bfloat16, torch.float16)
# Causes that are themselves a rounding to 16 bit: in a side that declares that type they are what it costs.
ROUNDING = {"undeclared-dtype", "ambient-autocast", "text-encoder-precision", "modulation-low-precision", "fused-norm-rounding-point",
            "rope-phase-low-precision", "autocast-fp32-device-dependent", "vision-rotary-low-precision", "timestep-rounded-to-bf16",
            "sigmas-built-in-low-precision", "fp32-exempt-modules-lost"}  # fmt: skip
TOLD = ("prompt_embeds", "noise_pred_text", "latents", "decoded")  # where the limit is stated


def sixteen_bit(lab: Lab) -> torch.dtype | None:
    """The 16-bit type in which weights of a live side are held, or None."""
    held = [p.dtype for side in lab.sides.values() if side is not None for m in side.components.values()
            if isinstance(m, torch.nn.Module) for p in m.parameters()]  # fmt: skip
    return next((dtype for dtype in COARSE if dtype in held), None)


def closer(found, coarse: torch.dtype, examine: Callable):
    """`found`, with what it could not see; or, where both sides run in float32 and differ there, what was found there.

    All weights are rounded to `coarse` first, so that both sides compute with the very weights they have.
    """
    word = str(coarse).removeprefix("torch.")
    found.verdict.notes.append(f"In {word} a fault that changes less than this cannot be seen: {limits(found.lab, coarse)}.")
    wide = Lab(found.case, found.lab.said)
    wide.ignored = {"dtype"}
    wide.sides, wide.evidence, wide.twins_of_each_other = found.lab.sides, found.lab.evidence, found.lab.twins_of_each_other
    if None in wide.sides.values():
        return found
    found.lab.said("running both sides again in float32")
    try:
        with contextlib.ExitStack() as stack:
            for side in wide.sides.values():
                for dtype in (coarse, torch.float32):
                    stack.enter_context(cast(side.components, dtype))
            again = examine(wide)
    except Trouble as trouble:
        found.verdict.notes.append(f"The sides could not be run in float32 to look closer: {trouble}")
        return found
    if again.verdict.agrees:
        found.verdict.notes.append("Run in float32 with the same weights, both sides agree, too.")
        return found
    if all(cause.id in ROUNDING for cause in again.verdict.causes):
        entry = again.verdict.first_divergence
        found.verdict.notes.append(f"Run in float32 with the same weights, they differ first at {describe(entry)}. Nothing but rounding on "
                                   f"the way, which {word} makes, too, was shown to explain it.")  # fmt: skip
        return found
    again.verdict.notes.append(f"This shows only in float32; in {word} it stays below the noise floor.")
    return again


def limits(lab: Lab, coarse: torch.dtype) -> str:
    """The smallest relative differences that would stand out, at the places that matter most."""
    reference = lab.traces["reference"]
    declared = any(dtype == coarse for _, dtype in precision.declared(lab))

    def smallest(place: Place) -> float:
        loss = lab.twin_loss(place, coarse) if declared else None
        return max(STANDS_OUT * lab.floor.of_stage(place, reference[place]), precision.SAME_SIZE * (loss or 0.0))

    told = []
    for probe in TOLD:
        places = reference.at(probe)
        if places:
            told.append(f"{probe} {min(map(smallest, places)):.2g}")
    return ", ".join(told) or f"{smallest(next(iter(reference))):.2g}"
