"""The page of a sweep: one file that asks for nothing. What needs a click works by a script in it; without scripts the rest is there."""

from __future__ import annotations

import base64
import datetime
import json
import pathlib

from whydiff import __version__
from whydiff.sweep import findings
from whydiff.sweep.results import CASES, Result
from whydiff.verdict import where

SIGNS = {"agree": "=", "differ": "✗", "trouble": "!"}
PICTURES = 12 << 20  # bytes of pictures that go into the page
LINES = 2000  # rows of the table of cases; results.csv has all


def write_page(out: pathlib.Path, title: str, results: list[Result], *, command: str, bisected: list[str] = (), planned: int = 0) -> pathlib.Path:
    """Write `out/index.html`. `planned`: how many cases the sweep has, where not all are done."""
    path = out / "index.html"
    draft = path.with_suffix(".html.part")
    draft.write_text(render(out, title, results, command=command, bisected=bisected, planned=planned), encoding="utf-8")
    draft.replace(path)
    return path


def render(out: pathlib.Path, title: str, results: list[Result], *, command: str = "", bisected: list[str] = (), planned: int = 0) -> str:
    """The page as text. Everything that comes from a case is escaped."""
    import jinja2

    from whydiff.report.html import figure  # torch: not where a sweep has yet to be read

    here = pathlib.Path(__file__).parent
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(here), autoescape=True, trim_blocks=True, lstrip_blocks=True,
                                     undefined=jinja2.StrictUndefined)  # fmt: skip
    environment.filters |= {"figure": figure}
    style = (here.parent / "report" / "report.css").read_text(encoding="utf-8") + (here / "sweep.css").read_text(encoding="utf-8")
    axes = findings.axes_of(results)
    axes = dict(sorted(axes.items(), key=lambda axis: not findings.matters(results, axis[0])))  # what matters comes first
    shown = {
        "title": title, "counts": findings.counts(results), "done": len(results), "planned": max(planned, len(results)),
        "worst": max((r.status for r in results), default=2), "missed": [r for r in results if r.missed],
        "expected": sum(r.expected and not r.trouble for r in results),
        "troubles": [r for r in results if r.trouble], "axes": _axes(results, axes), "bisected": list(bisected),
        "causes": findings.causes(results, axes), "heat": _heat(results, axes), "rows": [_row(r) for r in results[:LINES]],
        "sheet": _sheet(out, results), "signs": SIGNS, "command": command, "version": __version__,
        "script": (here / "sweep.js").read_text(encoding="utf-8"), "style": style,
        "written": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }  # fmt: skip
    return environment.get_template("sweep.html.j2").render(**shown)


def _axes(results: list[Result], axes: dict) -> list[dict]:
    """For each setting its values with how they came out, and where the difference begins."""
    return [{"key": key, "shares": findings.shares(results, key, values), "boundary": findings.boundary(results, key, values)}
            for key, values in axes.items()]  # fmt: skip


def _heat(results: list[Result], axes: dict) -> dict | None:
    """What the heat map is made of: axes, and of each case the value's number on each of them. The first pair is drawn without a script."""
    if len(axes) < 2:
        return None
    first, second = list(axes)[:2]
    cells = [[[r for r in results if findings.holds(r, first, a) and findings.holds(r, second, b)] for b in axes[second]] for a in axes[first]]
    cases = [{"name": r.name, "state": findings.state(r), "report": "" if r.trouble else r.report, "image": r.figures.get("image_difference"),
              "at": [next((i for i, v in enumerate(values) if findings.holds(r, key, v)), None) for key, values in axes.items()]}
             for r in results]  # fmt: skip
    data = {"axes": [{"key": key, "values": [_label(v) for v in values]} for key, values in axes.items()], "cases": cases}
    return {"first": first, "second": second, "columns": [_label(v) for v in axes[second]],
            "rows": [(_label(value), [_cell(held) for held in line]) for value, line in zip(axes[first], cells, strict=True)],
            "json": _script_safe(data)}  # fmt: skip


def _cell(held: list[Result]) -> dict:
    counts = findings.counts(held)
    done = counts["agree"] + counts["differ"]
    return {"total": len(held), "differ": counts["differ"], "trouble": counts["trouble"], "share": counts["differ"] / done if done else None,
            "report": held[0].report if len(held) == 1 and not held[0].trouble else "", "names": ", ".join(r.name for r in held[:12])}  # fmt: skip


def _row(result: Result) -> dict:
    first = (result.told or {}).get("first_divergence") or {}
    return {"result": result, "state": findings.state(result), "first": where(first) if first else "",
            "difference": first.get("difference"), "image": result.figures.get("image_difference")}  # fmt: skip


def _sheet(out: pathlib.Path, results: list[Result]) -> dict:
    """Both pictures of each case, as far as they fit."""
    shown, size, left = [], 0, 0
    for result in results:
        pictures = [(role, path) for role in ("reference", "candidate") for path in sorted((out / CASES / result.name).glob(f"{role}.*"))[:1]]
        size += sum(path.stat().st_size for _, path in pictures)
        if not pictures or size > PICTURES:
            left += bool(pictures)
            continue
        shown.append({"result": result, "state": findings.state(result), "pictures": [(role, _address(path)) for role, path in pictures]})
    return {"shown": shown, "left": left}


def _address(path: pathlib.Path) -> str:
    kind = "jpeg" if path.suffix == ".jpg" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _label(value) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _script_safe(data) -> str:
    """JSON that may stand inside a script element: no sign in it begins a tag."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
