"""Do both sides make the same size, and does every other parameter have the same value, given by whom?"""

from __future__ import annotations

from whydiff.audits.judge import judged
from whydiff.audits.result import AuditResult, Sentence, Table
from whydiff.evidence.atlas.compare import schedule_clashes
from whydiff.evidence.atlas.keys import KEYS, equal
from whydiff.evidence.sides.filled import CANONICAL, filled
from whydiff.evidence.surroundings.defaults import framework_called, model_called

NAME = "dimension_audit"
QUESTION = "Do both sides make an output of the same size, and who gave each parameter its value?"
SIZES = ("height", "width", "num_frames", "batch", "num_inference_steps")
_MISSING = object()


def audit(study) -> AuditResult:
    """Stated settings with their origin, beside what can be read off the tensors that were made."""
    settings = {role: stated(study, role) for role in ("reference", "candidate")}
    made = {role: took_effect(trace) for role, trace in study.lab.traces.items()}
    keys = [*SIZES, *(k for values in (*settings.values(), *made.values()) for k in values)]
    rows = tuple(_row(key, settings, made) for key in dict.fromkeys(keys) if _says_something(key, settings, made))
    findings = [*_sizes(made), *_causes(study), *_unspecified(settings), *_schedules(study), *_disagreeing(study, settings), *_declared(study)]
    sizes = {role: (values.get("height"), values.get("width")) for role, values in made.items()}
    return AuditResult(
        NAME,
        QUESTION,
        _word(study, made),
        tuple(findings),
        ("parameter", "reference", "from", "candidate", "from", "took effect"),
        rows,
        {"sizes": sizes, "settings": settings, "environment": environment_table(study)},
    )


def concerns(entry: dict) -> bool:
    """Sizes, and every cause that is a setting with another value."""
    return entry.get("stage") == "parameters" or (entry.get("relation") or {}).get("kind") == "setting"


def stated(study, role: str) -> dict[str, dict]:
    """{parameter: {value, origin}} under one spelling: the call, the side's own defaults, the case, the framework's facts."""
    lab = study.lab
    side, case_side = lab.sides[role], getattr(study.case, role)
    found: dict[str, dict] = {}
    if side is not None:
        found |= {CANONICAL.get(key, key): value for key, value in side.effective_settings().items()}
    elif lab.traces[role] is not None:
        found |= {
            CANONICAL.get(k, k): {"value": v, "origin": "recorded with the trace"} for k, v in lab.traces[role].settings.items()
        }
    for key, value in case_side.settings.items():
        found[CANONICAL.get(key, key)] = {"value": value, "origin": "the case's settings"}
    return filled(found, case_side.defaults)


def took_effect(trace) -> dict[str, int | float | str]:
    """Sizes, steps and dtypes read off what was recorded, whatever anybody stated."""
    if trace is None:
        return {}
    found: dict[str, int | float | str] = {}
    image = trace.get("image")
    if image is not None and image.dim() in (4, 5):
        found |= {"height": image.shape[-3], "width": image.shape[-2], "batch": image.shape[0]}
        if image.dim() == 5:
            found["num_frames"] = image.shape[1]
    if trace.steps:
        found["num_inference_steps"] = trace.steps
    for probe in ("prompt_embeds", "input_ids_2", "input_ids"):
        if trace.at(probe):
            tensor = trace[trace.at(probe)[0]]
            found["max_sequence_length"] = tensor.shape[1] if tensor.dim() > 1 else tensor.shape[0]
            break
    if trace.at("model_input/guidance"):
        found["guidance_scale"] = float(f"{trace[trace.at('model_input/guidance')[0]].flatten()[0].item():.6g}")
    latents = trace.at("latents") or trace.at("initial_latents")
    if latents:
        found["dtype of latents"] = str(trace[latents[-1]].dtype).removeprefix("torch.")
    return found


def _word(study, made) -> str:
    word = judged(study, concerns)
    if word != "incomparable" or study.verdict.verdict == "incomparable":
        return word
    common = [k for k in SIZES if all(k in values for values in made.values())]  # settings have no tensors: sizes are compared
    return "incomparable" if not common else "same" if all(_equal(made, k) for k in common) else "different"


def _equal(made, key) -> bool:
    return made["reference"][key] == made["candidate"][key]


def _sizes(made):
    size = {role: (v.get("height"), v.get("width")) for role, v in made.items()}
    if None in (*size["reference"], *size["candidate"]):
        return
    words = {role: f"{h} high and {w} wide ({orientation(h, w)})" for role, (h, w) in size.items()}
    if size["reference"] == size["candidate"]:
        yield Sentence(f"both pictures are {words['reference']}")
    else:
        yield Sentence(f"the reference's picture is {words['reference']}, the candidate's {words['candidate']}")
    if size["reference"] != size["candidate"] and size["reference"] == size["candidate"][::-1]:
        yield Sentence("height and width are exchanged: the same number of pixels, tokens and noise values, in another grid")


def environment_table(study) -> Table:
    """Versions, devices and precision flags of the process each side ran in; a live side runs in this one."""
    facts = {
        role: _flat(trace.environment if trace is not None and trace.environment else study.environment)
        for role, trace in study.lab.traces.items()
    }
    keys = dict.fromkeys(k for values in facts.values() for k in values)
    return Table(
        ("fact", "reference", "candidate"), tuple((k, facts["reference"].get(k), facts["candidate"].get(k)) for k in keys)
    )


def _flat(facts, path: str = "") -> dict:
    """{"versions": {"torch": "2.13.0"}} -> {"versions torch": "2.13.0"}."""
    found = {}
    for key, value in facts.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{path}{key} ")
        else:
            found[f"{path}{key}"] = ", ".join(map(str, value)) if isinstance(value, list) else value
    return found


def orientation(height: int, width: int) -> str:
    return "square" if height == width else "landscape" if width > height else "portrait"


def _causes(study):
    for cause in study.verdict.causes:
        if concerns(cause.to_dict()):
            yield Sentence(f"{cause.statement} ({cause.id})")


def _unspecified(settings):
    """What nobody specified: both sides fall back on a default, and only luck makes the defaults equal."""
    for key, mine in settings["reference"].items():
        theirs = settings["candidate"].get(key)
        if theirs is None or not (_by_default(mine) and _by_default(theirs)):
            continue
        if mine["value"] is None and theirs["value"] is None:
            continue
        if not _same_value(key, mine["value"], theirs["value"]):
            places = "; ".join(filter(None, (_place(mine), _place(theirs))))
            yield Sentence(f"nobody specified {key}; each side uses its own default: reference {_own(mine)}, candidate {_own(theirs)}"
                           + (f" ({places})" if places else ""))  # fmt: skip


def _place(entry) -> str:
    """"stages/input_validation.py:252": where a filled default stands, in short; the table has the whole source."""
    found = [source.strip().rpartition(": ")[2].split(" ")[0] for source in entry.get("source", "").split(";")]
    return ", ".join("/".join(place.split("/")[-2:]) for place in found if place)


def _same_value(key, one, other) -> bool:
    return equal(key, one, other) if key in KEYS else one == other


def _schedules(study):
    """Models named under `defaults` whose weights other frameworks run with another schedule."""
    named = [side.defaults for side in study.case.sides().values() if side.defaults is not None]
    pinned = {framework_called(one.framework).name: one.version for one in named}
    for model in dict.fromkeys(model_called(one.model) for one in named):
        clashes = schedule_clashes(model, pinned)
        if clashes:
            yield Sentence(f"the weights of {model} run with different schedules where nothing is specified: "
                           f"{'; '.join(map(str, clashes))}")  # fmt: skip


def _own(entry) -> str:
    return "decided inside" if entry["value"] is None and "source" not in entry else repr(entry["value"])


def _by_default(entry) -> bool:
    return entry["origin"].startswith(("default", "not specified"))


def _disagreeing(study, settings):
    """Stated values that differ although no cause follows from them."""
    blamed = {(cause.relation or {}).get("setting") for cause in study.verdict.causes}
    if any(cause.id == "height-width-swapped" for cause in study.verdict.causes):
        blamed |= {"height", "width"}
    for key, mine in settings["reference"].items():
        theirs = settings["candidate"].get(key)
        if theirs is None or key in blamed or mine["value"] == theirs["value"] or (_by_default(mine) and _by_default(theirs)):
            continue
        yield Sentence(
            f"{key} is stated as {mine['value']!r} and as {theirs['value']!r}; no difference in the output follows from it"
        )


def _declared(study):
    for role, side in study.case.sides().items():
        for key, value in side.declared.items():
            yield Sentence(f"{role} declares {key} {value}")


def _says_something(key, settings, made) -> bool:
    """Parameters that nobody gave a value, and whose default is None, are left out of the table."""
    stated = [values[key]["value"] for values in settings.values() if key in values]
    return any(value is not None for value in stated) or any(key in values for values in made.values())


def _row(key, settings, made):
    mine, theirs = (settings[role].get(key, {}) for role in ("reference", "candidate"))
    effect = [made[role].get(key, _MISSING) for role in ("reference", "candidate")]
    words = (
        " / ".join("?" if value is _MISSING else str(value) for value in effect) if any(v is not _MISSING for v in effect) else ""
    )
    return (key, _show(mine), mine.get("origin", "not stated"), _show(theirs), theirs.get("origin", "not stated"), words)


def _show(entry) -> str:
    return "" if "value" not in entry else repr(entry["value"])
