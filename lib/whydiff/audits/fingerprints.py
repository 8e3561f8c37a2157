"""Differences sorted by the first frame they touch: what a build's first differing frame says about its cause."""

from __future__ import annotations

from collections.abc import Mapping

from whydiff.audits.frames import by_frame, first_frame
from whydiff.audits.result import AuditResult, Sentence
from whydiff.audits.switches import named

NAME = "fingerprints"
QUESTION = "Which differences are there, which frame does each touch first, and does the engine find each?"


def grouped(studies: Mapping) -> dict[int | None, list[str]]:
    """Names by the first frame that differs, "never" (None) last."""
    groups: dict[int | None, list[str]] = {}
    for name, study in studies.items():
        groups.setdefault(first_frame(study), []).append(name)
    return dict(sorted(groups.items(), key=lambda item: (item[0] is None, item[0])))


def growth(study) -> float | None:
    """How many times larger the last frame's difference is than that of the first frame that differs; None: there is none."""
    series = [entry for entry in by_frame(study) if entry.stands_out and entry.difference]
    return series[-1].difference / series[0].difference if len(series) > 1 else None


def outcome(study) -> str:
    """`named`: every cause has a name; `located`: the place is known and the cause is not, or not of all; `agrees`; `vacuous`."""
    if study.verdict.agrees or study.verdict.verdict == "vacuous":
        return "vacuous" if study.verdict.verdict == "vacuous" else "agrees"
    return "located" if study.verdict.unexplained else "named"


# What a network is asked to make: another picture, as sharp as the one before.
REQUEST = ("prompt_embeds", "negative_prompt_embeds", "model_input/encoder_hidden_states", "model_input/encoder_attention_mask",
           "model_input/control")  # fmt: skip


def blur(study) -> str:
    """Can the difference change how sharp a frame is? "no": nothing is left of it; "another draw", "another request", or "can"."""
    if study.verdict.agrees or study.verdict.verdict == "vacuous":
        return "no"
    places = [(cause.stage, cause.probe) for cause in study.verdict.causes]
    places += [(entry["stage"], entry["probe"]) for entry in study.verdict.unexplained]
    if all(stage == "rng_noise" for stage, _ in places):
        return "another draw"  # with the other side's noise in place nothing else was found
    return "another request" if all(stage == "prompt_encoding" or probe in REQUEST for stage, probe in places) else "can"


def _blurring(alone: Mapping):
    """One sentence for each kind of difference that cannot blur, and one for those that can."""
    kinds: dict[str, list[str]] = {}
    for name, study in alone.items():
        kinds.setdefault(blur(study), []).append(name)
    for kind, words in (("no", "cannot blur, since nothing differs"), ("another draw", "cannot blur: equal once both have one noise"),
                        ("another request", "changes what is shown, not how sharp it is"), ("can", "can blur")):  # fmt: skip
        if kind in kinds:
            yield Sentence(f"{words}: {', '.join(kinds[kind])}")


def audit(alone: Mapping, builds: Mapping | None = None, drift: AuditResult | None = None, baseline: str = "") -> AuditResult:
    """`alone`: studies with one difference each; `builds`: studies of whole builds; `drift`: could the sides drift; `baseline`: the
    build that somebody took for the reference."""
    findings, builds = [], dict(builds or {})
    if baseline in builds:
        verdict = builds[baseline].verdict
        what = "is" if verdict.agrees else "is not"
        findings.append(Sentence(f"{baseline} {what} the reference", f"causes with a name: {len(verdict.causes)}, places that differ without "
                                 f"one: {len(verdict.unexplained)}"))  # fmt: skip
    if drift is not None:
        findings += [finding for finding in drift.findings if not baseline or str(finding).startswith(baseline)]
    for first, names in grouped(alone).items():
        findings.append(Sentence(f"never: {', '.join(names)}" if first is None else f"from frame {first} on: {', '.join(names)}"))
    findings += _blurring(alone)
    found = [name for name, study in alone.items() if outcome(study) in ("named", "located")]
    missed = [name for name, study in alone.items() if first_frame(study) is not None and name not in found]
    if found:
        how = [outcome(alone[name]) for name in found]
        findings.append(Sentence(f"the engine finds each of these {len(found)}" if not missed else f"the engine misses {', '.join(missed)}",
                                 f"{how.count('named')} by a cause's name, {how.count('located')} by the place alone"))  # fmt: skip
    table = []
    for name, study in alone.items():
        first = first_frame(study)
        table.append((name, "never" if first is None else first, growth(study), blur(study), outcome(study), named(study.verdict)))
    verdicts = {study.verdict.verdict for study in (builds or alone).values()}
    word = "different" if "different" in verdicts else sorted(verdicts)[0]
    return AuditResult(NAME, QUESTION, word, tuple(findings),
                       ("difference", "first frame", "last frame over first", "can it blur?", "engine", "what it says"), tuple(table))  # fmt: skip

