"""Dropdowns for a live notebook: choose a case, a probe and a step, and read how far apart the sides are there.

Without a kernel (a report, an untrusted notebook) a widget shows nothing, so a notebook shows its tables first.
"""

from __future__ import annotations

import html
import pathlib

from whydiff.audits.result import cell
from whydiff.engine.api import study as make_study
from whydiff.measure.compare import compare

FIGURES = ("relative_l2", "max_abs", "mean_abs", "correlation", "cosine", "psnr", "max_ulp", "differing", "elements", "why")


def browser(study, folder):
    """An ipywidgets box over `study`; another case of `folder` is diagnosed when it is chosen."""
    import ipywidgets

    here = pathlib.Path(study.case.path) if study.case.path else None
    paths = {path.stem: path for path in sorted(pathlib.Path(folder).glob("*.yaml"))}
    current = here.stem if here is not None and here.stem in paths else next(iter(paths), None)
    cases = ipywidgets.Dropdown(options=list(paths), value=current, description="case")
    probes = ipywidgets.Dropdown(description="probe")
    steps = ipywidgets.Dropdown(description="step")
    shown = ipywidgets.HTML()
    state = {"study": study}

    def show(_change=None):
        rows = [row for row in state["study"].rows if row.place.probe == probes.value and row.place.step == steps.value]
        shown.value = "".join(place_html(state["study"], row) for row in rows)

    def choose_probe(_change=None):
        options = [row.place.step for row in state["study"].rows if row.place.probe == probes.value]
        steps.options = [("before or after the loop" if step is None else str(step), step) for step in dict.fromkeys(options)]
        show()

    def choose_case(change):
        shown.value = f"diagnosing {html.escape(change['new'])} ..."
        state["study"] = make_study(paths[change["new"]])
        fill()

    def fill():
        first = (state["study"].verdict.first_divergence or {}).get("probe")
        probes.options = list(dict.fromkeys(row.place.probe for row in state["study"].rows))
        if first in probes.options:
            probes.value = first
        choose_probe()

    fill()
    cases.observe(choose_case, "value")
    probes.observe(choose_probe, "value")
    steps.observe(show, "value")
    return ipywidgets.VBox([ipywidgets.HBox([cases, probes, steps]), shown])


def place_html(study, row) -> str:
    """The figures of one place as an HTML table, its difference beside its noise floor."""
    lab = study.lab
    candidate = lab.traces["candidate"]
    pair = lab.pair(row.place, candidate[row.place]) if row.place in candidate else None  # of a fingerprint there are no values
    lines = [("difference", row.difference), ("noise floor", row.floor), ("stands out", row.stands_out), ("why", row.why),
             ("known", "figures alone" if row.figures else "estimated from sketches" if row.estimated else "")]  # fmt: skip
    if pair is not None:
        figures = compare(*pair).to_dict()
        lines += [(name, figures[name]) for name in FIGURES if figures[name] not in (None, "")]
    body = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(cell(value))}</td></tr>" for name, value in lines if value != ""
    )
    return f"<b>{html.escape(str(row.place))}</b><table>{body}</table>"
