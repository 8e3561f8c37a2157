"""Something to look at in three forms: a widget while a kernel listens, a page of its own in a trusted notebook or a report, and
plain pictures where scripts are not allowed. All that is shown lies in it, so that only questions to the kernel need a kernel.
"""

from __future__ import annotations

import functools
import html
import json
import pathlib
import secrets
from typing import Any

SCRIPTS = ("common", "maps", "pictures", "steps", "board", "practice", "render")
VIEW = "application/vnd.jupyter.widget-view+json"


class Exhibit:
    """Shows itself as the last line of a cell. `data`: JSON for the page, whose `kind` says which script shows it; `still`: HTML
    without scripts; `words`: one line of text; `height`: of the page in pixels, until it says how tall it is."""

    def __init__(self, data: dict[str, Any], still: str, words: str, height: int = 480):
        self.data, self.still, self.words, self.height = data, still, words, height
        self._live = None

    def asked(self, request: dict) -> None:
        """What somebody asked for by mouse or key: `{"what": ..., "value": ...}`. An exhibit that can answer overrides this."""

    def tell(self, text: str = "", *, busy: bool = False, failed: bool = False) -> None:
        """Put a line into the exhibit while it works or where it failed."""
        if self._live is not None:
            self._live.told = {"text": text, "busy": busy, "failed": failed}

    def show(self, data: dict[str, Any]) -> None:
        """Show something else from now on."""
        self.data = data
        if self._live is not None:
            self._live.data = data

    @property
    def widget(self):
        """The widget of the front end, made when first asked for."""
        if self._live is None:
            from whydiff.widgets.live import Live

            self._live = Live(data=self.data, _esm=script(), _css=part("exhibit.css"), exhibit=secrets.token_hex(8))
            self._live.observe(lambda change: self.asked(change["new"]), "asked")
        return self._live

    def page(self) -> str:
        """A whole HTML document that shows the exhibit by itself, without a kernel and without a network."""
        held = json.dumps({"data": self.data, "told": {}, "live": False}, ensure_ascii=False).replace("<", "\\u003c")
        return (f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(self.words)}</title><style>body{{margin:0}}'
                f'{part("exhibit.css")}</style><div id="exhibit"></div><script id="held" type="application/json">{held}</script>'
                f'<script type="module">{script()}\nalone();</script></html>')  # fmt: skip

    def html(self) -> str:
        """Plain pictures, and after them the page in a frame, which takes their place where scripts may run (see frame.js)."""
        beside = self._live.exhibit if self._live is not None else ""
        style = f"display:none;border:0;width:100%;height:{self.height}px"
        title, loaded, page = (html.escape(text) for text in (self.words, part("frame.js"), self.page()))
        frame = f'<iframe title="{title}" sandbox="allow-scripts" data-exhibit="{beside}" style="{style}" onload="{loaded}" srcdoc="{page}"></iframe>'
        return f'<div><div class="wd-still">{self.still}</div>{frame}</div>'

    def _ipython_display_(self) -> None:
        """Two outputs where somebody may be looking: the widget, and what remains of it when its kernel is gone."""
        from IPython.display import display

        if somebody_is_there():
            shown = self.widget._repr_mimebundle_()
            display({VIEW: (shown[0] if isinstance(shown, tuple) else shown)[VIEW], "text/plain": ""}, raw=True)
        display({"text/plain": self.words, "text/html": self.html()}, raw=True)


def somebody_is_there() -> bool:
    """Whether a person may be looking. Whoever runs a notebook headless (papermill, nbconvert, nbval) says that nobody can be asked
    for input; a widget would only leave its state behind there, and a blank place in the page made of it."""
    from IPython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    return bool(kernel is not None and kernel.get_parent().get("content", {}).get("allow_stdin"))


@functools.cache
def script() -> str:
    """The module that a front end imports: all scripts in one, since it can import nothing from a notebook."""
    return "\n".join(part(f"{name}.js") for name in SCRIPTS)


@functools.cache
def part(name: str) -> str:
    """A script or style of this room."""
    return (pathlib.Path(__file__).parent / name).read_text(encoding="utf-8")
