"""From records to figures: what was right, what was wrong, and the bars that must be met."""

from __future__ import annotations

import dataclasses
import statistics

from whydiff.faults.fault import FAULTS
from whydiff.faults.known import KNOWN
from whydiff.faults.right import half, probes_of, right_of

AGREE = ("same", "within_noise", "precision", "vacuous")
BELOW = 2.0  # an effect at most this many floors is below the noise


@dataclasses.dataclass(frozen=True)
class Judged:
    """One trial and what is to be said about its verdict. None: the question does not arise."""

    record: dict
    place: bool | None = None  # stage and probe of the first divergence are right (mutations: the module)
    cause: bool | None = None  # the right cause is named first (pairs: both are named)
    false: tuple[str, ...] = ()  # causes that are named and are not there
    alarm: bool = False  # a benign variation called a bug
    below: bool = False  # shown to lie below the noise floor, and not claimed to be a difference
    expected: str = ""
    got: str = ""

    @property
    def plan(self) -> dict:
        return self.record["plan"]


@dataclasses.dataclass(frozen=True)
class Figure:
    """A row of the table: right of all, and the bar (a share, or with `most` the largest allowed; None: no bar)."""

    what: str
    right: float
    of: int
    bar: float | None = None
    kind: str = "least"  # "least": a share of at least `bar`; "most": at most; "count": at least `bar` of them; "seconds"

    @property
    def share(self) -> float | None:
        return self.right / self.of if self.of else None

    @property
    def met(self) -> bool | None:
        """None where there is no bar or nothing was run."""
        if self.bar is None or not self.of:
            return None
        if self.kind == "least":
            return self.share >= self.bar
        if self.kind == "most":
            return self.share <= self.bar
        return self.right <= self.bar if self.kind == "seconds" else self.right >= self.bar


def judge(record: dict) -> Judged:
    """What a record says, held against what was planted."""
    suite = record["plan"]["suite"]
    if "error" in record:
        asked = {"place": False, "cause": None if suite in ("mutations", "benign") else False}
        return Judged(record, **asked, alarm=suite == "benign", expected=_expected(record), got=record["error"])
    judges = {"mutations": _mutation, "benign": _benign, "pairs": _pair}
    return judges.get(suite, _fault)(record)


def _fault(record: dict) -> Judged:
    plan, verdict, proof = record["plan"], record["verdict"], record["proof"]
    ids = right_of(plan["id"]).ids(plan["id"], plan["side"])
    named = [_answers(cause) for cause in verdict["causes"]]
    first = verdict["first_divergence"] or {}
    return Judged(
        record, place=_placed(plan["id"], first, proof), cause=bool(named and named[0] & ids),
        false=tuple(cause["id"] for cause in verdict["causes"] if not _answers(cause) & ids),
        below=_below(record), expected=_expected(record), got=_got(verdict))  # fmt: skip


def _placed(fault: str, first: dict, proof: dict) -> bool:
    """A leak shows only after another call: that is its stage; everything else diverges at a probe of its own stage."""
    probe = _family(first.get("probe") or "")
    probes = probes_of(fault)
    known = "depends" in probes or any(probe == right or (first.get("probe") or "").startswith(f"{right}/") for right in probes)
    if first.get("stage") in right_of(fault).stages:
        return True
    if proof["how"] == "leak":
        return first.get("stage") == "state_leakage" and known
    return known and first.get("stage") != "state_leakage"


def _mutation(record: dict) -> Judged:
    verdict, module = record["verdict"], record["proof"]["module"]
    unexplained = (verdict["unexplained"] or [{}])[0]
    spots = (verdict["first_divergence"] or {}, unexplained, *verdict["causes"][:1])  # all say where the first difference is
    right = any(module in (spot.get("module"), spot.get("module_reference")) for spot in spots)
    allowed = MUTATION_CAUSES.get(record["proof"]["mutation"], ())
    false = tuple(c["id"] for c in verdict["causes"] if not _answers(c) & set(allowed))
    return Judged(record, place=right, false=false, below=_below(record), expected=_expected(record), got=_got(verdict))


# What an experiment may really explain about a mutation: rounding is a precision, whatever it is called.
MUTATION_CAUSES = {
    "rounded to bf16": ("undeclared-dtype", "text-encoder-precision", "modulation-low-precision", "rope-phase-low-precision",
                        "fused-norm-rounding-point"),
}  # fmt: skip


def _benign(record: dict) -> Judged:
    from whydiff.faults.benign import BENIGN

    verdict, wanted = record["verdict"], BENIGN[record["plan"]["id"]].verdicts
    return Judged(record, alarm=verdict["verdict"] not in wanted, expected=_expected(record), got=_got(verdict))


def _pair(record: dict) -> Judged:
    plan, verdict = record["plan"], record["verdict"]
    ids = plan["id"].split("+")[1:]
    wanted = [right_of(id_).ids(id_, plan["side"]) for id_ in ids]
    named = [_answers(cause) for cause in verdict["causes"]]
    both = all(any(answers & ids_ for answers in named) for ids_ in wanted)
    return Judged(record, cause=both, expected=_expected(record), got=_got(verdict))


def table(judged: list[Judged]) -> list[Figure]:
    """The rows of the table, in the order of the issue, those with bars first."""
    of = {suite: [j for j in judged if j.plan["suite"] == suite] for suite in ("catalogue", "mutations", "benign", "pairs", "traces")}
    above = {suite: [j for j in rows if not j.below and not j.record.get("invalid")] for suite, rows in of.items()}
    faults, both = above["catalogue"], above["catalogue"] + above["mutations"]
    figures = [_share("right stage and probe of the first divergence", [j.place for j in faults], 0.98)]
    for name, rows in (("half A", _half(faults, "A")), ("half B", _half(faults, "B")), ("all", faults)):
        figures.append(_share(f"right cause named first, {name}", [j.cause for j in rows], 0.92))
    figures += [
        Figure("a false cause named in any position (catalogue and mutations)", sum(bool(j.false) for j in both), len(both), 0.02, "most"),
        _share("mutations: right module", [j.place for j in above["mutations"]], 0.95),
        Figure("benign variations called a bug", sum(j.alarm for j in of["benign"]), len(of["benign"]), 0.0, "most"),
        _share("pairs of bugs, both found", [j.cause for j in above["pairs"]], 0.85),
        _share("traces only (bugs outside the networks): right stage and probe", [j.place for j in above["traces"]], 0.95),
        _share("traces only (bugs outside the networks): right cause", [j.cause for j in above["traces"]], 0.75),
        _seconds(of["catalogue"]),
    ]
    planted = {j.plan["id"] for j in of["catalogue"] if not j.record.get("invalid")} & set(KNOWN)
    lost = {j.plan["id"] for j in judged if j.below}
    whole = {j.plan["id"] for j in of["catalogue"]} >= set(FAULTS) & set(KNOWN)  # of a sample one cannot ask for 120
    injected = Figure("catalogue bugs injected", len(planted), len(KNOWN) if of["catalogue"] else 0, 120 if whole else None, "count")
    return [*figures, injected,
            Figure("of all injected, shown to lie below the noise floor", len(lost), len(judged))]  # fmt: skip


def _share(what: str, right: list, bar: float) -> Figure:
    return Figure(what, sum(map(bool, right)), len(right), bar)


def _half(rows: list[Judged], name: str) -> list[Judged]:
    return [j for j in rows if half(j.plan["id"]) == name]


def _seconds(rows: list[Judged]) -> Figure:
    times = [j.record["cpu"] for j in rows if j.plan["host"] == "flux" and "cpu" in j.record]
    median = statistics.median(times) if times else 0.0
    return Figure("median processor seconds of one diagnosis of the tiny Flux, one thread", median, len(times), 5.0, "seconds")


def _below(record: dict) -> bool:
    """Not called a difference, and no larger than the healthy side's own noise."""
    proof = record["proof"]
    floor, effect = proof.get("floor"), proof.get("effect")
    return record["verdict"]["verdict"] in AGREE and floor is not None and effect is not None and effect <= BELOW * floor


def _answers(cause: dict) -> set[str]:
    return {cause["id"], *cause.get("equivalent", ())}


def _family(probe: str) -> str:
    """`prompt_embeds_2` -> `prompt_embeds`; arguments of the network keep theirs."""
    head, _, tail = probe.rpartition("_")
    return head if head and tail.isdigit() and "/" not in probe else probe


def _expected(record: dict) -> str:
    plan, proof = record["plan"], record["proof"]
    if plan["suite"] == "mutations":
        return f"{proof.get('module')} ({proof.get('mutation')})"
    if plan["suite"] == "benign":
        return "no difference"
    if plan["suite"] == "pairs":
        return " and ".join(plan["id"].split("+")[1:])
    ids = " or ".join(sorted(right_of(plan["id"]).ids(plan["id"], plan["side"])))
    places = "|".join(sorted(probes_of(plan["id"])))
    return f"{ids} first at {'state_leakage ' if proof.get('how') == 'leak' else ''}{places}"


def _got(verdict: dict) -> str:
    first = verdict["first_divergence"]
    where = "" if not first else f" first at {first['stage']}/{first['probe']}" + (f" {first['module']}" if first.get("module") else "")
    causes = ", ".join(c["id"] + (f" (or {', '.join(c['equivalent'])})" if c.get("equivalent") else "") for c in verdict["causes"])
    left = f"; {len(verdict['unexplained'])} unexplained" if verdict["unexplained"] else ""
    return f"{verdict['verdict']}: {causes or 'no cause'}{where}{left}"
