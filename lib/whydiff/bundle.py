"""The zip that one attaches to an issue: verdict, report, settings, environments, fingerprints; nothing private, no weights."""

from __future__ import annotations

import json
import pathlib
import re
import tempfile
import zipfile
from collections.abc import Callable

from whydiff.errors import Trouble
from whydiff.report.settings import ROLES
from whydiff.scrubbed import Scrubber
from whydiff.verdict import Verdict

_VARIABLES = re.compile(r"<tr[^>]*>\s*<t[hd][^>]*>(?:<code>)?variables\..*?</tr>\s*", re.DOTALL)  # rows of the report's environments


def bundle(source, out, said: Callable[[str], None] = lambda text: None) -> list[tuple[str, int]]:
    """Write the zip `out` of a case (diagnosed first) or of a report's folder. Returns (member, bytes) of what is in it.

    Raises Trouble for what is neither, and where `out` cannot be written; `out` is replaced only when all of it is there.
    """
    source, out = pathlib.Path(source), _target(out)
    with tempfile.TemporaryDirectory() as made:
        packed = pathlib.Path(made) / "packed"
        if source.is_dir():
            study, command = _read(source)
            page = source / "report.html"
        else:
            study, command = _diagnosed(source, said)
            page = pathlib.Path(made) / "report.html"
            said("writing the report")
            _write_page(study, page, command)
        said("packing")
        _fill(packed, study, page, command, source)
        return _zipped(packed, out)


def _target(out) -> pathlib.Path:
    out = pathlib.Path(out)
    if out.suffix.lower() != ".zip" or out.is_dir():
        raise Trouble(f"--out {out}: expected a file that ends in .zip.")
    if not out.absolute().parent.is_dir():
        raise Trouble(f"--out {out}: there is no folder {out.parent}. Make it first.")
    return out


def _diagnosed(path: pathlib.Path, said):
    from whydiff.evidence.case import load_case

    case = load_case(path)  # before torch is imported
    case.refuse_missing()
    from whydiff.engine.api import study

    return study(case, progress=said), f"whydiff diagnose {_short(path)}"


def _write_page(study, path: pathlib.Path, command: str) -> None:
    from whydiff.report.html import write_report

    write_report(study, path, command=command)


def _short(path: pathlib.Path) -> str:
    """Relative to the current folder where it lies in it, else its name."""
    try:
        return path.resolve().relative_to(pathlib.Path.cwd().resolve()).as_posix()
    except ValueError:
        return path.name


def _read(folder: pathlib.Path):
    """The study behind a report, and the command that repeats it. A folder of `diagnose --out` has verdict and traces alone."""
    from whydiff.engine.lab import Lab
    from whydiff.engine.store import FILE, load_study
    from whydiff.engine.study import Study
    from whydiff.evidence.case import make_case
    from whydiff.evidence.traces.reading import read_trace
    from whydiff.evidence.traces.strangers import json_file, reading

    path = folder / "verdict.json"
    if not path.is_file():
        raise Trouble(f"{folder} holds no verdict.json. Give a case (a YAML file), or the folder that --out of investigate or diagnose wrote.")
    held = json_file(path)
    with reading(path, "a verdict that can be read", "Diagnose again."):
        verdict = Verdict.from_dict(held)
    if (folder / "study" / FILE).is_file():
        study = load_study(folder / "study")
        study.lab.sides = dict.fromkeys(ROLES)  # what is packed was recorded; a stranger's report runs nothing here
        study.verdict = verdict
        return study, f"whydiff investigate {_short(pathlib.Path(study.case.path)) if study.case.path else verdict.case}"
    case = make_case({"title": verdict.case, "question": verdict.question or "Why do the two outputs differ?",
                      **{role: {"trace": f"traces/{role}"} for role in ROLES}})  # fmt: skip
    lab = Lab(case, lambda text: None)
    found = {role: folder / "traces" / role for role in ROLES}
    lab.traces = {role: read_trace(at) if (at / "trace.jsonl").is_file() else None for role, at in found.items()}
    return Study(case, lab, [], [], [], verdict, {}), f"whydiff diagnose {verdict.case or 'CASE'}.yaml"


def _fill(packed: pathlib.Path, study, page: pathlib.Path, command: str, source: pathlib.Path) -> None:
    from whydiff.report.markdown import pasted
    from whydiff.report.settings import environments, settings_of

    packed.mkdir()
    scrub = Scrubber([*_prompts(study), *_versions(study)], {(source if source.is_dir() else source.parent).absolute(): "."})
    for role in ROLES:
        _without_variables(study, role)
    settings = {role: settings_of(study, role) for role in ROLES}
    facts = {role: {row["key"]: row["cells"][number] for row in environments(study)} for number, role in enumerate(ROLES)}
    _json(packed / "verdict.json", scrub.data(study.verdict.to_dict()))
    _json(packed / "settings.json", scrub.data(settings))
    _json(packed / "environment.json", scrub.data(facts))
    (packed / "report.md").write_text(scrub.text(pasted(study, command)), encoding="utf-8")
    if page.is_file():
        (packed / "report.html").write_text(scrub.page(_VARIABLES.sub("", page.read_text(encoding="utf-8"))), encoding="utf-8")
    _json(packed / "case.yaml", scrub.data(_case(study)))  # JSON is YAML
    for role, trace in study.lab.traces.items():
        if trace is not None:
            _fingerprint(trace, packed / "traces" / role, scrub)


def _prompts(study) -> list[str]:
    """Texts of the requests themselves."""
    told = [getattr(study.case, role).settings | getattr(getattr(study.case, role).live, "call", {}) for role in ROLES]
    told += [trace.settings for trace in study.lab.traces.values() if trace is not None]
    held = [value for one in told for key, value in one.items() if "prompt" in key]
    return [text for value in held for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]


def _versions(study) -> list[str]:
    """Of Python and of the libraries, on both sides."""
    from whydiff.report.settings import environments, producers

    rows = [row["cells"] for row in environments(study) if row["key"] == "python" or row["key"].startswith("versions.")]
    return [cell for cells in rows for cell in cells] + [row["parts"].get("version", "") for row in producers(study)]


def _without_variables(study, role: str) -> None:
    """Neither a trace's environment nor this process's keeps environment variables."""
    trace = study.lab.traces.get(role)
    study.environment = {k: v for k, v in study.environment.items() if k != "variables"}
    if trace is not None:
        own = trace.environment or (study.environment if study.lab.evidence.get(role) == "live" else {})
        trace.environment = {k: v for k, v in own.items() if k not in ("variables", "pid")}


def _fingerprint(trace, folder: pathlib.Path, scrub: Scrubber) -> None:
    """The trace at level fingerprint. What its components are called stays: places need it."""
    for key in ("producer", "settings", "environment", "injection"):
        setattr(trace, key, scrub.data(getattr(trace, key)))
    trace.save(folder, level="fingerprint")


def _case(study) -> dict:
    """The case that diagnoses the bundle's own traces again."""
    case = {"title": study.case.title or study.case.name, "question": study.case.question}
    for role in ROLES:
        side = getattr(study.case, role)
        entry = {"name": side.name or role, "settings": side.settings, "declares": side.declares}
        if study.lab.traces.get(role) is not None:
            entry["trace"] = f"traces/{role}"
        if side.defaults is not None:
            entry["defaults"] = side.defaults.model_dump(mode="json", exclude_none=True)
        case[role] = {key: value for key, value in entry.items() if value}
    return case


def _json(path: pathlib.Path, value) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf-8")


def _zipped(packed: pathlib.Path, out: pathlib.Path) -> list[tuple[str, int]]:
    """Members in a fixed order with a fixed date: the same evidence makes the same bundle."""
    draft = out.with_name(f".{out.name}.part")
    files = sorted(path for path in packed.rglob("*") if path.is_file())
    try:
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in files:
                info = zipfile.ZipInfo(path.relative_to(packed).as_posix())
                info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                archive.writestr(info, path.read_bytes())
        draft.replace(out)
    except OSError as error:
        raise Trouble(f"--out {out} cannot be written: {error.strerror or error}.") from None
    finally:
        draft.unlink(missing_ok=True)
    return [(path.relative_to(packed).as_posix(), path.stat().st_size) for path in files]
