"""Two files, two traces or two folders of them compared place by place: figures, and a word."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib

from whydiff.engine.figured import Figures, compared
from whydiff.engine.lab import Lab
from whydiff.engine.matched import put_together
from whydiff.engine.sketched import Estimate, estimates
from whydiff.errors import Trouble, existing
from whydiff.evidence.case import make_case
from whydiff.evidence.floor import STANDS_OUT, image_floor, own_ulp
from whydiff.evidence.readers import read_evidence, tools
from whydiff.evidence.traces.files import IMAGES, TENSORS, is_trace, read_tensors
from whydiff.evidence.traces.strangers import inside
from whydiff.evidence.traces.trace import Trace
from whydiff.measure.compare import Comparison, compare
from whydiff.measure.mapped import ask_for
from whydiff.places import walk_key


@dataclasses.dataclass(frozen=True)
class Line:
    """One tensor that both have. `floor` is that of the reference's trace, None where none was measured."""

    name: str
    comparison: Comparison | Estimate | Figures
    floor: float | None = None
    picture: str = ""

    @property
    def verdict(self) -> str:
        if self.comparison.equal:
            return "same"
        if isinstance(self.comparison, Figures):
            return "different" if self.comparison.row.why else "within_noise"
        difference = self.comparison.difference
        if self.floor is not None and difference is not None and difference <= STANDS_OUT * self.floor:
            return "within_noise"
        return "different"

    def to_dict(self) -> dict:
        floor = None if self.floor is None else float(f"{self.floor:.3g}")
        return {"name": self.name, "verdict": self.verdict, "difference": self.comparison.to_dict()["relative_l2"],
                "noise_floor": floor, "figures": self.comparison.to_dict()}  # fmt: skip

    def __str__(self) -> str:
        floor = "" if self.floor is None else f"; noise floor {self.floor:.2g}"
        head = f"{self.name}: " if self.name else ""
        return f"{head}{self.verdict}: {self.comparison}{floor}{self.picture}"


@dataclasses.dataclass(frozen=True)
class FileComparison:
    """All that two files, traces or folders have in common, in walking order."""

    lines: list[Line]
    only_reference: list[str]
    only_candidate: list[str]

    @property
    def verdict(self) -> str:
        words = {line.verdict for line in self.lines}
        if not words:
            return "incomparable"
        if "different" in words or self.only_reference or self.only_candidate:
            return "different"
        return "within_noise" if "within_noise" in words else "same"

    def to_dict(self) -> dict:
        return {"verdict": self.verdict, "compared": len(self.lines), "tensors": [line.to_dict() for line in self.lines],
                "only_reference": self.only_reference, "only_candidate": self.only_candidate}  # fmt: skip

    def __str__(self) -> str:
        rows = [str(line) for line in self.lines]
        rows += [f"only in the reference: {', '.join(self.only_reference)}"] if self.only_reference else []
        rows += [f"only in the candidate: {', '.join(self.only_candidate)}"] if self.only_candidate else []
        if len(self.lines) == 1 and len(rows) == 1:
            return rows[0]
        first = next((line.name for line in self.lines if line.verdict == "different"), None)
        end = f", first at {first}" if first else ""
        return "\n".join([*rows, f"{self.verdict}: {len(self.lines)} tensors compared{end}"])


def compare_files(reference, candidate) -> FileComparison:
    """Compare two paths of one kind. Raises Trouble for what cannot be read, or two kinds."""
    a, b = existing(reference), existing(candidate)
    if all(is_trace(path) or tools(path) for path in (a, b)):
        return _traces(a, b)
    if a.is_dir() != b.is_dir():
        raise Trouble(f"{a if a.is_dir() else b} is a folder and {b if a.is_dir() else a} is a file. Give two of one kind.")
    if is_trace(a) != is_trace(b):
        raise Trouble(f"{b if is_trace(a) else a} holds no trace.jsonl, the other one does. Give two traces.")
    if a.is_dir():
        return _folders(a, b)
    return _paired(_file(a), _file(b), {}, pictures=a.suffix.lower() in IMAGES and b.suffix.lower() in IMAGES)


def _file(path: pathlib.Path) -> dict:
    return read_tensors(path)


def _paired(mine: dict, theirs: dict, floors: dict, *, pictures: bool = False, order=None) -> FileComparison:
    if len(mine) == len(theirs) == 1 and set(mine) != set(theirs):  # one tensor each: their names do not matter
        theirs = dict(zip(mine, theirs.values(), strict=True))
    names = sorted((n for n in mine if n in theirs), key=order) if order else [n for n in mine if n in theirs]
    lines = []
    for name, following in itertools.zip_longest(names, names[1:]):
        ask_for(mine.get(following), theirs.get(following))
        floor = floors.get(name)
        shown = " ".join(str(name).split())
        picture = _picture(mine[name], theirs[name]) if pictures else ""
        lines.append(Line(shown, compare(mine[name], theirs[name]), floor, picture))
    return FileComparison(lines, [str(n) for n in mine if n not in theirs], [str(n) for n in theirs if n not in mine])


def _picture(mine, theirs) -> str:
    from whydiff.measure.pictures import compare_pictures

    if mine.shape != theirs.shape or min(mine.shape[-3:-1]) < 3:
        return ""
    return f"; {compare_pictures(mine, theirs)}"


def _traces(a: pathlib.Path, b: pathlib.Path) -> FileComparison:
    from whydiff.measure.pictures import round_to_8_bit

    reference, candidate = _whole(read_evidence(a), read_evidence(b))
    floors = {}
    if reference.floor:
        floors = {place: max(reference.floor.get(place.probe, 0.0), own_ulp(reference[place])) for place in reference}
    mine = {place: event.tensor for place, event in reference.events.items()}
    theirs = {place: event.tensor for place, event in candidate.events.items()}
    for place in mine:
        if place.probe == "image" and place in theirs:
            eight_bit = "8 bit" in (reference.events[place].component, candidate.events[place].component)
            if eight_bit and mine[place].shape == theirs[place].shape:
                mine[place], theirs[place] = round_to_8_bit(mine[place]), round_to_8_bit(theirs[place])
                if reference.floor:  # rounding has a floor of its own
                    made = STANDS_OUT * max(reference.floor.get("decoded", 0.0), floors[place])
                    floors[place] = max(floors[place], image_floor(mine[place], made) / STANDS_OUT)
    whole = _paired(mine, theirs, floors, order=walk_key)
    found = estimates(reference, candidate) | compared(reference, candidate)
    if not found and len(reference.places) + len(candidate.places) == len(mine) + len(theirs):
        return whole
    lines = [(place, Line(str(place), known, known.row.floor if reference.floor else None)) for place, known in found.items()]
    lines += [(place, line) for line in whole.lines for place in mine if str(place) == line.name]
    shared = {str(place) for place in found}
    return FileComparison([line for _, line in sorted(lines, key=lambda pair: walk_key(pair[0]))],
                          [str(p) for p in reference.places if p not in set(candidate.places) and str(p) not in shared],
                          [str(p) for p in candidate.places if p not in set(reference.places) and str(p) not in shared])  # fmt: skip


def _whole(reference: Trace, candidate: Trace) -> tuple[Trace, Trace]:
    """Both traces, with what several ranks hold put together."""
    lab = Lab(make_case({"reference": {"trace": "reference"}, "candidate": {"trace": "candidate"}}), lambda text: None)
    lab.traces = {"reference": reference, "candidate": candidate}
    for role, trace in lab.traces.items():
        if any(place.rank is not None for place in trace):
            put_together(lab, role)
    return reference, candidate


def _folders(a: pathlib.Path, b: pathlib.Path) -> FileComparison:
    """Files and traces of the same relative path."""
    mine, theirs = _listed(a), _listed(b)
    if not mine and not theirs:
        raise Trouble(f"{a} and {b} hold nothing that can be read ({', '.join(TENSORS + IMAGES)}, or traces).")
    lines: list[Line] = []
    only_a = [n for n in mine if n not in theirs]
    only_b = [n for n in theirs if n not in mine]
    for name in (n for n in mine if n in theirs):
        inner = compare_files(mine[name], theirs[name])
        lines += [dataclasses.replace(line, name=f"{name} {line.name}".strip()) for line in inner.lines]
        only_a += [f"{name} {n}".strip() for n in inner.only_reference]
        only_b += [f"{name} {n}".strip() for n in inner.only_candidate]
    return FileComparison(lines, only_a, only_b)


def _listed(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    traces = [path.parent for path in sorted(folder.rglob("trace.jsonl"))]
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in TENSORS + IMAGES
             and not any(trace in path.parents for trace in traces) and inside(path, folder)]  # fmt: skip
    return {path.relative_to(folder).as_posix(): path for path in sorted([*traces, *files])}
