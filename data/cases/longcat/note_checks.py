"""The six checks of the note, from the formulas and limits of its script; each takes (side, inputs) and looks at one side alone."""

import weakref

import torch
from torch import Tensor

from longcat.inputs import Inputs
from longcat.pipeline import LongCat
from whydiff.measure.calibration import Reading

_known = weakref.WeakKeyDictionary()  # several checks look at the same predictions of a side


def predictions(side: LongCat, given: Inputs) -> tuple[Tensor, Tensor]:
    """Conditional and unconditional prediction, computed once for each side and input."""
    known = _known.setdefault(side, {})
    if given.name not in known:
        known[given.name] = predict_both(side, given)
    return known[given.name]


def predict_both(side: LongCat, given: Inputs) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return (side.predict(given.latents, given.timestep, given.text, given.mask),
                side.predict(given.latents, given.timestep, given.negative, given.negative_mask))  # fmt: skip


def factor(cond: Tensor, uncond: Tensor) -> float:
    """st_star of CFG-Zero*: <cond, uncond> / |uncond|²."""
    return float((cond * uncond).sum() / (uncond.square().sum() + 1e-8))


def magnitude(side: LongCat, given: Inputs) -> Reading:
    value = float(predictions(side, given)[0].abs().mean())
    return Reading(value, 0.01 < value < 100)


def differentiation(side: LongCat, given: Inputs) -> Reading:
    cond, uncond = predictions(side, given)
    value = float((cond - uncond).abs().mean())
    return Reading(value, value > 0.01)


def zero_against_standard(side: LongCat, given: Inputs) -> Reading:
    """Both formulas are written out in the script, so the pipeline's own is never called."""
    cond, uncond = predictions(side, given)
    st_star = factor(cond, uncond)
    zero = uncond * st_star + given.scale * (cond - uncond * st_star)
    value = float((zero - (uncond + given.scale * (cond - uncond))).abs().mean())
    return Reading(value, value > 0.001)


def negation(side: LongCat, given: Inputs, steps: int = 50) -> Reading:
    """One step with v and one with -v. The scheduler counts its steps, so the second is taken one index later."""
    cond, uncond = predictions(side, given)
    st_star = factor(cond, uncond)
    v = uncond * st_star + given.scale * (cond - uncond * st_star)
    side.set_timesteps(side.scheduler, steps)
    side.scheduler.set_begin_index(given.index)
    t = side.scheduler.timesteps[given.index]
    after = [side.scheduler.step(sign * v, t, given.latents, return_dict=False)[0] for sign in (1, -1)]
    value = float((after[0] - after[1]).abs().mean())
    return Reading(value, value > 0.01)


def factor_range(side: LongCat, given: Inputs) -> Reading:
    value = factor(*predictions(side, given))
    return Reading(value, -1 < value < 2)


def parameter_order(side: LongCat, given: Inputs) -> Reading:
    """Called an exchange of text and timestep; what it feeds is 500 everywhere as text, and the text's mean as time."""
    cond, _ = predictions(side, given)
    with torch.no_grad():
        wrong = side.predict(given.latents, given.text.mean().reshape(1), torch.full_like(given.text, 500.0), given.mask)
    value = float((cond - wrong).abs().mean())
    return Reading(value, value >= 0.01)


NOTE_CHECKS = {
    "output magnitude": magnitude,
    "CFG differentiation": differentiation,
    "CFG-zero against standard": zero_against_standard,
    "negation effect": negation,
    "st_star range": factor_range,
    "parameter order": parameter_order,
}


def sanity(side: LongCat, given: Inputs) -> Reading:
    """The note's Test 1: standard deviation 0.5 to 1 and every value in [-2, 2]."""
    cond, _ = predictions(side, given)
    largest = float(cond.abs().max())
    return Reading(largest, largest <= 2 and 0.5 <= float(cond.std()) <= 1, f"std {float(cond.std()):.2f}")


def consistency(side: LongCat, given: Inputs) -> Reading:
    """The note's Test 2: the same as the second check, with a limit of 0.1."""
    value = differentiation(side, given).value
    return Reading(value, value > 0.1)


NOTE_TESTS = {"Test 1, output": sanity, "Test 2, CFG": consistency}  # Test 3 needs a trained network, Test 4 an autoencoder
