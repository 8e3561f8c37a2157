"""What whydiff says in the end: the verdict, its causes and the file `verdict.json`."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import re

AGREE = ("same", "within_noise", "precision")
VERDICTS = ("same", "within_noise", "precision", "different", "incomparable", "vacuous")


def rounded(value):
    """Numbers of a verdict have 3 significant digits; what is not finite is null (JSON knows neither)."""
    if isinstance(value, bool) or value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        return float(f"{value:.3g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): rounded(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(v) for v in value]
    return rounded(float(value)) if hasattr(value, "__float__") else str(value)


@dataclasses.dataclass
class Cause:
    """A root cause, named because an experiment measured it. Fields as in `verdict.json` (contract)."""

    id: str
    stage: str
    probe: str
    statement: str
    relation: dict
    explained: float
    experiment: str
    departs: str = "unknown"
    fix: str = ""
    step: int | None = None
    steps: list[int] | None = None
    module: str | None = None
    equivalent: list[str] = dataclasses.field(default_factory=list)
    image_effect: float | None = None
    branch: str | None = None
    occurrence: int = 0

    def to_dict(self) -> dict:
        entry = {"id": self.id, "stage": self.stage, "probe": self.probe, "step": self.step, "steps": self.steps,
                 "module": self.module, "statement": self.statement, "relation": self.relation,
                 "equivalent": list(self.equivalent), "explained": self.explained, "experiment": self.experiment,
                 "image_effect": self.image_effect, "departs": self.departs, "fix": self.fix}  # fmt: skip
        if self.branch is not None:
            entry["branch"] = self.branch
        if self.occurrence:
            entry["occurrence"] = self.occurrence
        return rounded(entry)


@dataclasses.dataclass
class Verdict:
    """The answer to "why do they differ?"; shows itself in a notebook, `save` writes `verdict.json`."""

    verdict: str
    summary: str
    case: str = ""
    question: str = ""
    first_divergence: dict | None = None
    causes: list[Cause] = dataclasses.field(default_factory=list)
    unexplained: list[dict] = dataclasses.field(default_factory=list)
    declared: list[dict] = dataclasses.field(default_factory=list)
    compared: dict = dataclasses.field(default_factory=dict)
    evidence: dict = dataclasses.field(default_factory=dict)
    audits: list[dict] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def agrees(self) -> bool:
        return self.verdict in AGREE

    @property
    def exit_status(self) -> int:
        """As diff(1): 0 the sides agree, 1 they differ, 2 nothing was really compared."""
        return 0 if self.agrees else 1 if self.verdict == "different" else 2

    def to_dict(self) -> dict:
        compared = {"tensors": 0, "unpaired_reference": [], "unpaired_candidate": [], "layouts": []} | self.compared
        return rounded({"schema": 1, "case": self.case, "question": self.question, "verdict": self.verdict,
                        "summary": self.summary, "first_divergence": self.first_divergence,
                        "causes": [cause.to_dict() for cause in self.causes], "unexplained": self.unexplained,
                        "declared": self.declared, "compared": compared, "evidence": self.evidence,
                        "audits": self.audits, "notes": self.notes})  # fmt: skip

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n"

    def save(self, folder) -> pathlib.Path:
        """Write `folder/verdict.json` (made if missing; replaced in one move, so that no half file is ever seen)."""
        path = pathlib.Path(folder) / "verdict.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".json.part")
        draft.write_text(self.to_json(), encoding="utf-8")
        draft.replace(path)
        return path

    @classmethod
    def from_dict(cls, data: dict) -> Verdict:
        """The verdict that `to_dict` gave. Raises ValueError that names the first key which holds something else."""
        check_fields(data, _VERDICT, "the verdict")
        for cause in data.get("causes", []):
            check_fields(cause, _CAUSE, "a cause")
        for entry in [*filter(None, [data.get("first_divergence")]), *data.get("unexplained", []), *data.get("declared", [])]:
            check_fields(entry, _ENTRY, "a place")
        names = {field.name for field in dataclasses.fields(Cause)}
        causes = [Cause(**{k: v for k, v in cause.items() if k in names}) for cause in data.get("causes", [])]
        fields = {field.name for field in dataclasses.fields(cls)} - {"causes"}
        return cls(causes=causes, **{k: v for k, v in data.items() if k in fields})

    def __str__(self) -> str:
        lines = [self.summary]
        for number, cause in enumerate(self.causes, 1):
            effect = "" if cause.image_effect is None else f"; repairing it alone removes {share(cause.image_effect)} of the image's difference"
            lines.append(f"{number}. {cause.id} ({cause.stage}, {cause.probe}): {cause.statement}")
            lines.append(f"   proof: {cause.experiment}; this explains {share(cause.explained)} of the difference there{effect}")
            lines.append(f"   departs: {cause.departs}. fix: {cause.fix}")
        for entry in self.unexplained:
            lines.append(f"unexplained: {describe(entry)}")
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def words(self) -> str:
        """The verdict in words, places, ids and fitted parameters, without any measured number: stable from run to run."""
        lines = [f"verdict: {self.verdict}"]
        if self.first_divergence:
            lines.append(f"first divergence: {where(self.first_divergence)}")
        lines += [f"cause: {cause.id} at {where(cause.to_dict())}: {cause.statement}" for cause in self.causes]
        lines += [f"unexplained: {where(entry)}" for entry in self.unexplained]
        return "\n".join(lines)

    def _repr_markdown_(self) -> str:
        rows = [f"**{literal(self.summary)}**", ""]
        if self.causes:
            rows += ["| | cause | where | what | proof | explained | share of the image |", "|-|-|-|-|-|-|-|"]
        for number, cause in enumerate(self.causes, 1):
            effect = "" if cause.image_effect is None else share(cause.image_effect)
            cells = [number, f"`{cause.id}`", where(cause.to_dict()), cause.statement, cause.experiment,
                     share(cause.explained), effect]  # fmt: skip
            rows.append("| " + " | ".join(breakable(literal(str(cell)).replace("|", "\\|")) for cell in cells) + " |")
        rows += [""] + [f"*Unexplained:* {literal(describe(entry))}  " for entry in self.unexplained]
        rows += [f"*Note:* {literal(note)}  " for note in self.notes]
        return "\n".join(rows)


def literal(text: str) -> str:
    """Words from a trace inside Markdown: no tag, link or picture comes to life in them. Notebooks that whydiff ran are trusted."""
    text = re.sub(r"\s*[\r\n]\s*", " ", str(text))
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)
    return re.sub(r"\](?=\s*[(:\[])", r"\\]", text)


_TEXT, _NUMBER = (str,), (int, float, type(None))
_VERDICT = {"verdict": _TEXT, "summary": _TEXT, "case": _TEXT, "question": _TEXT, "first_divergence": (dict, type(None)), "causes": (list,),
            "unexplained": (list,), "declared": (list,), "compared": (dict,), "evidence": (dict,), "audits": (list,), "notes": (list,)}  # fmt: skip
_PLACE = {"stage": _TEXT, "probe": _TEXT, "step": (int, type(None)), "module": (str, type(None)), "branch": (str, type(None)), "occurrence": (int,)}
_CAUSE = _PLACE | {"id": _TEXT, "statement": _TEXT, "relation": (dict,), "explained": _NUMBER, "experiment": _TEXT, "departs": _TEXT,
                   "fix": _TEXT, "steps": (list, type(None)), "equivalent": (list,), "image_effect": _NUMBER}  # fmt: skip
_ENTRY = _PLACE | {"difference": _NUMBER, "noise_floor": _NUMBER, "why": (str, type(None))}
_NEEDED = {"stage", "probe", "id", "statement", "relation", "explained", "experiment", "verdict", "summary"}


def check_fields(held, kinds: dict[str, tuple], what: str) -> None:
    """Raise ValueError unless `held` is an object whose keys hold what they should."""
    if not isinstance(held, dict):
        raise ValueError(f"{what} is {str(held)[:100]!r}")
    for key, allowed in kinds.items():
        if key not in held and key in _NEEDED:
            raise ValueError(f"{what} has no {key}")
        if key in held and not isinstance(held[key], allowed):
            raise ValueError(f"{key} of {what} is {str(held[key])[:100]!r}")
    if what == "the verdict" and held["verdict"] not in VERDICTS:
        raise ValueError(f"no such verdict: {held['verdict'][:100]!r}")


def breakable(text: str) -> str:
    """Text for a cell of a table: long paths and names may go on in the next line, so that the table keeps to the page."""
    return re.sub(r"[^\s`]{25,}", lambda run: re.sub(r"(?<=[/._:=])(?=\w)", "<wbr>", run[0]), text)


def where(entry: dict) -> str:
    """`schedule / sigmas`, `model_forward / noise_pred_text, step 0`: a place in words."""
    words = f"{entry['stage']} / {entry['probe']}"
    if entry.get("module"):
        words += f" {entry['module']}"
    if entry.get("step") is not None:
        words += f", step {entry['step']}"
    if entry.get("branch"):
        words += f", {entry['branch']}"
    if entry.get("occurrence"):
        words += f", occurrence {entry['occurrence']}"
    return words


def share(value: float | None) -> str:
    """A share in words: `29 %`, `less than 1 %`, `not measured`; 0.99996 is not 100 %.

    The share of the image is negative where repairing one cause among several moves the picture further away.
    """
    if value is None:
        return "not measured"
    if value != 0 and abs(value) < 0.005:
        return "less than 1 %"
    if 0.995 < abs(value) < 1:
        return f"{100 * value:.2f} %" if abs(value) < 0.99995 else "> 99.99 %"
    return f"{100 * rounded(value):.0f} %"


def describe(entry: dict) -> str:
    """A place with its difference and noise floor."""
    words = where(entry)
    if entry.get("difference") is not None:
        words += f": relative difference {entry['difference']:.3g}"
        if entry.get("noise_floor") is not None:
            words += f", noise floor {entry['noise_floor']:.2g}"
    if entry.get("why"):
        words += f" ({entry['why']})"
    return words
