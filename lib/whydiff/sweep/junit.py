"""The results as JUnit XML, which CI systems read: a case that differs, or is not as expected, is a failure; trouble is an error."""

from __future__ import annotations

import pathlib
import re
import xml.etree.ElementTree as ElementTree

from whydiff.sweep.results import Result
from whydiff.verdict import Verdict

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(path, title: str, results: list[Result]) -> pathlib.Path:
    path = pathlib.Path(path)
    counts = {"tests": len(results), "failures": sum(r.status == 1 for r in results), "errors": sum(r.status == 2 for r in results),
              "skipped": 0, "time": f"{sum(r.seconds for r in results):.3f}"}  # fmt: skip
    told = {key: str(value) for key, value in counts.items()}
    root = ElementTree.Element("testsuites", told | {"name": "whydiff"})
    suite = ElementTree.SubElement(root, "testsuite", told | {"name": _clean(title)})
    for result in results:
        _add(suite, result, title)
    ElementTree.indent(root)
    draft = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.ElementTree(root).write(draft, encoding="utf-8", xml_declaration=True)
    draft.replace(path)
    return path


def _add(suite, result: Result, title: str) -> None:
    case = ElementTree.SubElement(suite, "testcase", {"classname": _clean(title), "name": _clean(result.name), "time": f"{result.seconds:.3f}"})
    if result.planned.settings:
        held = ElementTree.SubElement(case, "properties")
        for key, value in result.planned.settings.items():
            ElementTree.SubElement(held, "property", {"name": _clean(key), "value": _clean(value)})
    words = Verdict.from_dict(result.told) if result.told else None
    if result.trouble:
        ElementTree.SubElement(case, "error", {"type": "set aside" if result.set_aside else "trouble", "message": _clean(result.trouble)})
    elif result.status:
        kind = "error" if result.status == 2 else "failure"
        wrong = ElementTree.SubElement(case, kind, {"type": result.verdict, "message": _clean(result.missed or words.summary)})
        wrong.text = _clean(words)
    if words is not None:
        ElementTree.SubElement(case, "system-out").text = _clean(f"{words.words()}\nreport: {result.report}")


def _clean(value) -> str:
    """XML has no way to write most control characters."""
    return _NOT_IN_XML.sub("\ufffd", str(value))
