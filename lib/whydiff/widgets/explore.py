"""The explorer of `00_start_here`: choose a case, a stage, a probe, a step and a channel, and see what is there."""

from __future__ import annotations

import html
import pathlib

from whydiff.engine.api import study as make_study
from whydiff.errors import Trouble
from whydiff.widgets.board import board
from whydiff.widgets.exhibit import Exhibit
from whydiff.widgets.steps import still


class Explorer(Exhibit):
    """The board of a study. With a kernel, another case of `folder` is diagnosed when it is chosen."""

    def __init__(self, study, folder=None):
        self.study, self._paths = study, paths_in(folder)
        super().__init__(self._board(study), still_of(study), f"explorer: {study.verdict.summary or study.verdict.verdict}", height=900)

    def _board(self, study) -> dict:
        name = pathlib.Path(study.case.path).stem if study.case.path else ""
        return board(study) | {"cases": list(self._paths), "case": name if name in self._paths else ""}

    def asked(self, request: dict) -> None:
        """Diagnose the case that was chosen. What fails is said in place, and the case before stays."""
        name = str(request.get("value", ""))
        if request.get("what") != "case" or name not in self._paths:
            return
        self.tell(f"{name}: starting …", busy=True)
        try:
            self.study = make_study(self._paths[name], progress=lambda text: self.tell(f"{name}: {text} …", busy=True))
            self.show(self._board(self.study))
        except Trouble as trouble:
            self.tell(f"{name}: {trouble}", failed=True)
        except Exception as error:  # a case may be anybody's code: what it raises must not leave the page waiting
            self.tell(f"{name}: {type(error).__name__}: {error}", failed=True)
        else:
            self.tell(f"{name} is diagnosed.")


def explorer(study, folder=None) -> Explorer:
    """Look around in a study. `folder`: cases to choose from; with a live kernel each is diagnosed when it is chosen."""
    return Explorer(study, folder)


def paths_in(folder) -> dict[str, pathlib.Path]:
    return {} if folder is None else {path.stem: path for path in sorted(pathlib.Path(folder).glob("*.yaml"))}


def still_of(study) -> str:
    """The strip as a table, and pictures of the first place that differs, without scripts."""
    data = board_rows(study)
    cells = "".join(f"<tr><td>{html.escape(sign)}</td><td>{html.escape(name)}</td><td>{html.escape(word)}</td><td>{html.escape(causes)}</td></tr>"
                    for sign, name, word, causes in data)  # fmt: skip
    first = (study.verdict.first_divergence or {}).get("probe")
    row = next((row for row in study.rows if row.place.probe == first), None) or next(iter(study.rows), None)
    pictures = "" if row is None else still(study, row, str(row.place))
    return f"<div><table><tr><th></th><th>stage</th><th></th><th>causes</th></tr>{cells}</table>{pictures}</div>"


def board_rows(study) -> list[tuple[str, str, str, str]]:
    from whydiff.report.stages import stages

    return [(entry.sign, entry.name, entry.word, ", ".join(entry.causes)) for entry in stages(study)]
