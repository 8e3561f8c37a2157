"""In which frame of a video made frame by frame does a difference begin, and what do the layers remember by then?

A side that makes one frame after the other taps the same names again and again: a frame is an `occurrence` of a place.
"""

from __future__ import annotations

import dataclasses

from whydiff.audits.result import AuditResult, Sentence
from whydiff.evidence.floor import STANDS_OUT
from whydiff.evidence.traces.trace import Trace
from whydiff.formulas.frame_memory import Window, find_window, periods

NAME = "frames"
QUESTION = "In which frame does the difference begin, and which earlier frames does each layer see?"

OUTPUTS = ("decoded", "vae_latents", "latents")  # what shows a frame, the latest first
VISIBLE = "model_input/visible_frames"  # (layers, frames) bool: the earlier frames that each layer looks at, tapped by the side
WRITTEN = "cached_keys"  # what a side remembers of a frame, tapped where it is written


@dataclasses.dataclass(frozen=True)
class FrameDifference:
    """One frame of one probe: relative L2 of whole runs, the limit above which it stands out, and what the stage adds itself."""

    frame: int
    difference: float | None
    limit: float
    added: float | None

    @property
    def stands_out(self) -> bool:
        return self.difference is None or self.difference > self.limit


def by_frame(study, probe: str = "") -> list[FrameDifference]:
    """Each frame's difference at the last step of `probe` (the first of OUTPUTS that both sides have, unless given)."""
    probes = [probe] if probe else [name for name in OUTPUTS if any(row.place.probe == name for row in study.rows)]
    chosen = _last_of_frames(study.rows, probes[0]) if probes else {}
    added = _last_of_frames(study.added, probes[0]) if probes else {}
    return [FrameDifference(frame, row.difference, STANDS_OUT * row.floor, getattr(added.get(frame), "difference", None))
            for frame, row in sorted(chosen.items())]  # fmt: skip


def _last_of_frames(rows, probe: str) -> dict:
    return {row.place.occurrence: row for row in sorted((r for r in rows if r.place.probe == probe), key=lambda r: r.place.step or 0)}


def first_frame(study, probe: str = "") -> int | None:
    """The fingerprint: the first frame that differs by more than noise; None is "never"."""
    return next((entry.frame for entry in by_frame(study, probe) if entry.stands_out), None)


def windows(trace: Trace) -> list[Window | None]:
    """The window of each layer that explains what it saw in every frame recorded; None for a layer that no window explains.

    Empty where `VISIBLE` was not tapped. The first step of each frame is looked at.
    """
    events = sorted((p.occurrence, p.step or 0, p) for p in trace if p.probe == VISIBLE)
    first = {frame: place for frame, _, place in reversed(events)}
    if sorted(first) != list(range(len(first))) or not first:
        return []
    masks = [trace[first[frame]].bool() for frame in range(len(first))]
    return [find_window([(*masks[t][layer].nonzero().flatten().tolist(), t) for t in range(len(masks))])
            for layer in range(masks[0].shape[0])]  # fmt: skip


def in_words(found: list[Window | None]) -> str:
    """`0, 4: one frame in 2 of the last 8; the other 6: every frame of the last 4`."""
    groups = sorted(periods(found), key=lambda group: len(group[1]))
    if len(groups) == 1:
        return f"all {len(found)}: {_window(groups[0][0])}"
    parts = [f"{', '.join(map(str, layers))}: {_window(window)}" for window, layers in groups[:-1]]
    return "; ".join([*parts, f"the other {len(groups[-1][1])}: {_window(groups[-1][0])}"])


def _window(window: Window | None) -> str:
    return "no window explains it" if window is None else str(window)


def written(trace: Trace) -> list[int]:
    """The steps of a frame at which a side writes its memory; the sampler's steps are 0 to N - 1, a pass after them is N."""
    return sorted({p.step for p in trace if p.probe == WRITTEN and p.step is not None})


def repeats(trace: Trace, probe: str) -> tuple[int, int] | None:
    """(frame, earlier frame): from `frame` on, each frame receives bit for bit what `earlier frame` did; None if not so."""
    values = {p.occurrence: trace[p] for p in trace if p.probe == probe and p.step in (0, None)}
    last = max(values, default=0)
    since = last
    while since - 1 in values and values[since - 1].equal(values[last]):
        since -= 1
    return (since + 1, since) if 0 < since < last else None


def audit(study) -> AuditResult:
    """The first frame that differs, what each side remembers, and inputs that stop changing on one side."""
    series = by_frame(study)
    first = first_frame(study)
    findings = [Sentence("no frame differs" if first is None else f"the first frame that differs is {first}")]
    for role, trace in (("reference", study.reference), ("candidate", study.candidate)):
        seen = windows(trace)
        if seen:
            steps = written(trace)
            what = f"written at step {', '.join(map(str, steps))} of each frame" if steps else "never written"
            findings.append(Sentence(f"what the {role} sees, by layers: {in_words(seen)}; its memory is {what}"))
    for probe in sorted({p.probe for p in study.candidate if p.probe.startswith("model_input/")}):
        mine, theirs = repeats(study.reference, probe), repeats(study.candidate, probe)
        for role, one, other in (("reference", mine, theirs), ("candidate", theirs, mine)):
            if one and not other:
                findings.append(Sentence(f"the {role}'s {probe} stays what it was in frame {one[1]} from frame {one[0]} on"))
    table = [(e.frame, e.difference, e.limit, e.added, e.stands_out) for e in series]
    return AuditResult(NAME, QUESTION, study.verdict.verdict, tuple(findings),
                       ("frame", "difference of whole runs", "stands out above", "added by its decoder", "stands out"), tuple(table),
                       {"frames": series, "windows": {"reference": windows(study.reference), "candidate": windows(study.candidate)}})  # fmt: skip
