"""Noise drawn frame by frame: by which rule, is one rule noisier than the other, and what is left once the noise is the same?"""

from __future__ import annotations

import torch

from whydiff.audits.result import AuditResult, Sentence
from whydiff.errors import Trouble
from whydiff.evidence.floor import STANDS_OUT
from whydiff.evidence.traces.trace import Trace
from whydiff.measure.compare import relative_l2
from whydiff.measure.frames import contrast, equal_pairs, fine_detail

NAME = "frame_noise"
QUESTION = "By which rule is each frame's noise drawn, and can the rule change more than which video is made?"
PROBE = "initial_noise"


def draws(trace: Trace) -> list[torch.Tensor]:
    """The noise of each frame, in the order of frames."""
    return [trace[place] for place in sorted(trace.at(PROBE), key=lambda place: place.occurrence)]


def rule(own: list[torch.Tensor], seed: int) -> str:
    """How the draws of a run follow from its seed, as far as drawing them again tells. All of one shape, on the CPU."""
    stream = torch.Generator().manual_seed(seed)
    if all(torch.equal(d, torch.randn(d.shape, generator=stream, dtype=d.dtype)) for d in own):
        return "one stream"
    fresh = [torch.Generator().manual_seed(seed + k) for k in range(len(own))]
    if all(torch.equal(d, torch.randn(d.shape, generator=g, dtype=d.dtype)) for d, g in zip(own, fresh)):
        return "seed + index of the frame"
    return "the same draw each time" if len(own) > 1 and all(torch.equal(own[0], d) for d in own) else "no rule that was tried"


def audit(study) -> AuditResult:
    """Both sides' draws, those of the next seed, and the candidate run once more with the reference's noise in each frame."""
    findings, table, lab = [], [], study.lab
    for role in ("reference", "candidate"):
        side = lab.sides[role]
        seed = int(side.call.get("seed") or 0)
        own, following = draws(study.lab.traces[role]), draws(lab.run(role, changes={"seed": seed + 1}))
        shared = equal_pairs(own, following)
        frames = torch.stack([noise.movedim(1, -1) for noise in own], 1)
        spread, fine = contrast(frames), fine_detail(frames)
        law = rule(own, seed)
        table.append((role, law, sum(spread) / len(spread), sum(fine) / len(fine), f"{len(shared)} of {len(own)}"))
        findings.append(Sentence(f"the {role} draws the noise of its frames by this rule: {law}"))
        if shared:
            i, j = shared[-1]
            words = f"on the {role}, {len(shared)} of {len(own)} draws of seed {seed + 1} are draws of seed {seed}: frame {j} has that of frame {i}"
            findings.append(Sentence(f"{words}, so neighbouring seeds are no independent samples"))
    left = left_with_equal_noise(study)
    words = "nothing is left of the difference" if left is None else f"{left[0]} still differs"
    findings.append(Sentence(f"with the reference's noise in every frame of the candidate, {words}", "" if left is None else f"{left[1]:.2g}"))
    return AuditResult(NAME, QUESTION, study.verdict.verdict, tuple(findings),
                       ("side", "rule", "standard deviation (1 expected)", "share of energy in fine detail", "draws shared with the next seed"),
                       tuple(table))  # fmt: skip


def left_with_equal_noise(study) -> tuple[str, float] | None:
    """(place, relative L2) of the first place that still stands out when the candidate is given the reference's noise; None: none."""
    lab, repaired = study.lab, study.lab.repaired({PROBE})
    for place in study.reference:
        if place in repaired and place.probe != PROBE:
            mine = study.reference[place]
            difference = relative_l2(mine, repaired[place]) if repaired[place].shape == mine.shape else float("inf")
            if difference > STANDS_OUT * lab.floor.of_run(place, mine):
                return str(place), difference
    return None


def differing(studies: dict):
    """The first of `studies` whose only difference is in the noise of some frame. Raises Trouble where there is none."""
    for study in studies.values():
        adding = {row.place.probe for row in study.added if row.stands_out}
        if adding == {PROBE}:
            return study
    raise Trouble(f"none of {', '.join(studies)} differs in {PROBE} alone; add such a switch.")
