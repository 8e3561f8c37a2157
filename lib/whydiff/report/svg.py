"""A figure as inline SVG: it follows the page's colours, dark theme and print, and its text is text."""

from __future__ import annotations

import io
import re
import warnings

# Pure black and white and the colours of the sides belong to the page; all others stay as they are drawn.
_COLOURS = {"#000000": "currentColor", "#ffffff": "var(--paper, #fff)", "#808080": "var(--soft, #808080)",
            "#1b5e8c": "var(--reference, #1b5e8c)", "#c2571a": "var(--candidate, #c2571a)"}  # fmt: skip
_LEFT_OUT = re.compile(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>|\s*<!--.*?-->", re.DOTALL)
_GROUP_NAME = re.compile(r'<g id="[^"]*"')  # numbered by figure, so that two figures of one page would share them
_SPACE = re.compile(r'\s+(?:xmlns|xmlns:xlink|version|width|height)="[^"]*"')


def inline(figure, label: str, name: str):
    """Markup of a matplotlib figure, which is closed. `label` is read to those who do not see it; `name` is unlike that of any
    other figure of the page."""
    import matplotlib
    import matplotlib.pyplot as plt
    from markupsafe import Markup, escape

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser has a font for it
        if (layout := figure.get_layout_engine()) is not None:  # savefig alone would draw twice
            layout.execute(figure)
            layout.execute(figure)  # a legend below the axes follows their size
            figure.set_layout_engine("none")
        figure.savefig(buffer, format="svg", transparent=True)
    plt.close(figure)
    text = buffer.getvalue()
    text = _GROUP_NAME.sub("<g", _LEFT_OUT.sub("", text[text.index("<svg") :]))
    head, _, rest = text.partition(">")
    for drawn, meant in _COLOURS.items():
        rest = rest.replace(drawn, meant)
    head = _SPACE.sub("", head)
    return Markup(f'{head} class="view" role="img" aria-label="{escape(label)}">{rest}'.replace("xlink:href", "href"))
