"""The report: one file that opens anywhere, without a network. What it shows is gathered in `contents.py`."""

from __future__ import annotations

import base64
import hashlib
import pathlib

from whydiff.report.contents import contents
from whydiff.report.headline import upper
from whydiff.report.stages import in_floors, percent_of_loudest
from whydiff.verdict import share

HERE = pathlib.Path(__file__).parent
# The belt beside the braces of escaping: no request, no form, no script but this page's own.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src '{}'; base-uri 'none'; form-action 'none'"


def render(study, *, notebooks: list[str] = (), command: str = "", kept: dict | None = None) -> str:
    """The page as text. Everything that comes from a case, a side or a tensor is escaped.

    `kept`: {audit: what it stored beside its findings}, for pictures that took runs of their own.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True,
                                     undefined=jinja2.StrictUndefined)  # fmt: skip
    environment.filters |= {"figure": figure, "percent": share, "sentence": upper, "floors": in_floors, "loud": percent_of_loudest}
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    shown = contents(study, notebooks=list(notebooks), command=command, kept=kept or {})
    own = {"style": Markup(style), "script": Markup(script), "policy": POLICY.format(digest(script))}
    return environment.get_template("report.html.j2").render(**own, **shown)


def digest(script: str) -> str:
    """The hash by which a Content-Security-Policy knows a script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def write_report(study, path, *, notebooks: list[str] = (), command: str = "", kept: dict | None = None) -> pathlib.Path:
    """Write the page; nothing half-written is ever seen."""
    path = pathlib.Path(path)
    text = render(study, notebooks=notebooks, command=command, kept=kept)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".html.part")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
    return path


def figure(value) -> str:
    """A number of the verdict for a reader: three digits, and a dash where there is none."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return "0" if value == 0 else f"{value:.3g}"
