"""The report: one file that opens anywhere, without a network. What it shows is gathered in `contents.py`."""

from __future__ import annotations

import pathlib

from whydiff.report.contents import contents
from whydiff.verdict import share


def render(study, *, notebooks: list[str] = (), command: str = "") -> str:
    """The page as text. Everything that comes from a case, a side or a tensor is escaped."""
    import jinja2

    here = pathlib.Path(__file__).parent
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(here), autoescape=True, trim_blocks=True, lstrip_blocks=True,
                                     undefined=jinja2.StrictUndefined)  # fmt: skip
    environment.filters |= {"figure": figure, "percent": share, "sentence": sentence}
    style = (here / "report.css").read_text(encoding="utf-8")
    shown = contents(study, notebooks=list(notebooks), command=command)
    return environment.get_template("report.html.j2").render(style=style, **shown)


def write_report(study, path, *, notebooks: list[str] = (), command: str = "") -> pathlib.Path:
    """Write the page; nothing half-written is ever seen."""
    path = pathlib.Path(path)
    text = render(study, notebooks=notebooks, command=command)
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



def sentence(text: str) -> str:
    """The same words with a capital letter in front, unless they begin with a name in code."""
    word = text.split(" ", 1)[0]
    return text[:1].upper() + text[1:] if word.replace("'", "").isalpha() and word.islower() else text
