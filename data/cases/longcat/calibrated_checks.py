"""What replaces the note's six checks: each holds the port against the original, within what the original's own rounding allows.

No limit is chosen here. The original is run again with every module's output moved by one unit in the last place
(`evidence.floor.shaking`); what that changes is the floor, and `STANDS_OUT` floors are the limit, as in every verdict.
"""

import inspect
import math

import torch

from longcat.inputs import Inputs
from longcat.note_checks import factor, predict_both, predictions
from longcat.pipeline import LongCat, strict_loading
from whydiff.evidence.floor import STANDS_OUT, ULP_RUNS, own_ulp, shaking
from whydiff.formulas.guidance import ROUNDINGS, combine
from whydiff.measure.calibration import Reading
from whydiff.measure.compare import relative_l2
from whydiff.measure.relations import find_relation


class Calibrated:
    """The checks against one reference. `reference` must be the original in float32."""

    def __init__(self, reference: LongCat):
        self.reference, self.known = reference, {}

    def checks(self) -> dict:
        """By the name of the check of the note that each replaces, then the two that the note lacks."""
        return {"output, held against the original": self.output, "direction cond - uncond": self.direction,
                "the stage's own guidance": self.guidance, "what the scheduler receives": self.to_scheduler,
                "st_star, held against the original": self.factor, "arguments bound by name": self.arguments,
                "weights loaded strictly": self.weights}  # fmt: skip

    def measured(self, given: Inputs):
        """The original's predictions and, for each quantity, how far they are from themselves when rounding is drawn anew."""
        if given.name not in self.known:
            cond, uncond = predictions(self.reference, given)
            guided = self.reference.to_scheduler(cond, uncond, given.scale)
            floors = {"output": own_ulp(cond), "direction": own_ulp(cond), "to_scheduler": own_ulp(cond), "factor": own_ulp(cond)}
            for seed in range(ULP_RUNS):
                with shaking(self.reference.components, seed):
                    c, u = predict_both(self.reference, given)
                found = {"output": relative_l2(cond, c), "direction": relative_l2(cond - uncond, c - u),
                         "to_scheduler": relative_l2(guided, self.reference.to_scheduler(c, u, given.scale)),
                         "factor": abs(math.log(factor(c, u) / factor(cond, uncond)))}  # fmt: skip
                floors = {key: max(floors[key], value) for key, value in found.items()}
            self.known[given.name] = cond, uncond, guided, {key: STANDS_OUT * value for key, value in floors.items()}
        return self.known[given.name]

    def output(self, side: LongCat, given: Inputs) -> Reading:
        cond, _, _, limits = self.measured(given)
        return _within(relative_l2(cond, predictions(side, given)[0]), limits["output"])

    def direction(self, side: LongCat, given: Inputs) -> Reading:
        """The most sensitive quantity for what the text does: most of the output does not depend on it."""
        cond, uncond, _, limits = self.measured(given)
        c, u = predictions(side, given)
        return _within(relative_l2(cond - uncond, c - u), limits["direction"])

    def guidance(self, side: LongCat, given: Inputs) -> Reading:
        """The side's own function on fixed tensors, a batch of two among them, against the published closed form."""
        generator = torch.Generator().manual_seed(0)
        worst = 0.0
        for batch in (1, 2, 16):
            cond, uncond = torch.randn(2, batch, *given.latents.shape[1:], generator=generator)
            expected = combine("zero_star", cond.double(), uncond.double(), given.scale)
            worst = max(worst, relative_l2(expected, side.guide(cond, uncond, given.scale).double()))
        return _within(worst, ROUNDINGS * torch.finfo(torch.float32).eps * (1 + given.scale))

    def to_scheduler(self, side: LongCat, given: Inputs) -> Reading:
        """With its sign and scale: where a simple change explains the difference, that change is named."""
        _, _, guided, limits = self.measured(given)
        own = side.to_scheduler(*predictions(side, given), given.scale)
        reading = _within(relative_l2(guided, own), limits["to_scheduler"])
        relation = None if reading.passed else find_relation(guided, own, limits["to_scheduler"])
        return Reading(reading.value, reading.passed, relation.words if relation else reading.words)

    def factor(self, side: LongCat, given: Inputs) -> Reading:
        cond, uncond, _, limits = self.measured(given)
        ratio = factor(*predictions(side, given)) / factor(cond, uncond)
        return _within(abs(math.log(ratio)) if ratio > 0 else math.inf, limits["factor"])

    def arguments(self, side: LongCat, given: Inputs) -> Reading:
        """Every keyword of the call is a parameter of the network's forward: nothing numerical can show it better."""
        seen = {}
        handle = side.transformer.register_forward_pre_hook(lambda m, args, kwargs: seen.update(args=args, kwargs=kwargs), with_kwargs=True)
        try:
            predict_both(side, given)
        finally:
            handle.remove()
        inspect.signature(type(side.transformer).forward).bind(None, *seen["args"], **seen["kwargs"])
        sent = given.mask is None or seen["kwargs"].get("encoder_attention_mask") is not None
        return Reading(float(len(seen["args"])), not seen["args"] and sent, "" if sent else "the mask never reaches the network")

    def weights(self, side: LongCat, given: Inputs) -> Reading:
        found = strict_loading(side)
        problems = [f"{len(names)} {word}" for word, names in vars(found).items() if names]
        return Reading(float(sum(map(len, vars(found).values()))), not problems, ", ".join(problems))


def _within(value: float, limit: float) -> Reading:
    return Reading(value, value <= limit, f"limit {limit:.2g}")
