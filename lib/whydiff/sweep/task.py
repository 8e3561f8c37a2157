"""One case in a worker: what it is told, what it does, and what it hands back.

All that the case is goes along with the task, and all that was found comes back with its answer: workers need the same checkout
and the same models as the sweep, but no folder in common.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import pathlib
import shutil
import sys
import tempfile
import threading
import time
from typing import Any

from whydiff.sweep.grid import Planned

LOG = 20_000  # characters of what a case printed, kept where it ended in trouble
PICTURE = 160  # pixels: the longer edge of a picture in the contact sheet
LEFT_OUT = ("traces", "study")  # folders of an investigation that stay behind: they are large, and can be made again

_pool = None
_one_at_a_time = threading.Lock()  # a case seeds global generators and watches torch's own functions: never two in one process


@dataclasses.dataclass
class Answer:
    """`verdict`: as verdict.json has it; or `trouble`: why there is none. `files`: what belongs into the case's folder."""

    name: str
    verdict: dict | None = None
    trouble: str = ""
    seconds: float = 0.0
    figures: dict[str, Any] = dataclasses.field(default_factory=dict)
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)


def run(planned: Planned, notebooks: bool = False) -> Answer:
    """Diagnose one case, with pipelines and recordings that this process still has. Never raises for what a case does."""
    global _pool
    from whydiff.errors import Trouble
    from whydiff.sweep.pool import Pool

    with _one_at_a_time, _log() as log:
        _pool = _pool or Pool()
        start, before = time.monotonic(), (_pool.loaded, _pool.shared)
        answer = Answer(planned.name)
        try:
            _pool.begin()
            (_investigated if notebooks else _diagnosed)(planned, answer)
        except Trouble as trouble:
            answer.trouble = str(trouble)
        except Exception as error:
            answer.trouble = f"internal error: {type(error).__name__}: {' '.join(str(error).split())}"
            import traceback

            traceback.print_exc()
        answer.seconds = time.monotonic() - start
        answer.figures |= {"loaded": _pool.loaded - before[0], "shared": _pool.shared - before[1], "process": os.getpid()}
    if answer.trouble:
        answer.files = {"output.txt": log.getvalue()[-LOG:].encode()}
    return answer


def _diagnosed(planned: Planned, answer: Answer) -> None:
    from whydiff.engine.api import study as make_study
    from whydiff.headless import effective_case
    from whydiff.report.html import write_report

    case = planned.case()
    study = make_study(case, progress=_said, store=_pool)
    with tempfile.TemporaryDirectory(prefix="whydiff-") as folder:
        path = effective_case(case, pathlib.Path(folder))
        write_report(study, pathlib.Path(folder) / "report.html", command=f"whydiff investigate {path.name}")
        answer.files = _files(pathlib.Path(folder))
    _told(study, answer)
    _pool.keep(study)


def _investigated(planned: Planned, answer: Answer) -> None:
    from whydiff.headless import effective_case, investigate

    folder = pathlib.Path(tempfile.mkdtemp(prefix="whydiff-"))
    try:
        path = effective_case(planned.case(), folder)
        found = investigate(path, folder / "out", said=_said, store=_pool)
        shutil.copy(path, folder / "out" / path.name)
        answer.files = _files(folder / "out")
        answer.trouble = "; ".join(found.failures)
        _told(found.study, answer)
        _pool.keep(found.study)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _told(study, answer: Answer) -> None:
    """The verdict, the distance of the pictures, and the pictures in small."""
    answer.verdict = study.verdict.to_dict()
    image = next((row for row in study.rows if row.place.probe == "image"), None)
    answer.figures["image_difference"] = None if image is None else image.difference
    for role, trace in study.lab.traces.items():
        event = next((e for p, e in trace.events.items() if p.probe == "image"), None) if trace is not None else None
        if event is not None:
            with contextlib.suppress(Exception):  # no picture is no reason to lose a verdict
                ending, content = _small(event.tensor)
                answer.files[f"{role}.{ending}"] = content


def _small(image) -> tuple[str, bytes]:
    """The first frame of an image: ("png", its pixels) where it is small, else ("jpg", at most PICTURE pixels wide or high)."""
    import numpy as np
    from PIL import Image

    from whydiff.report.html_pictures import frames

    picture = Image.fromarray((np.asarray(frames(image)[0]) * 255).round().astype(np.uint8))
    buffer = io.BytesIO()
    if max(picture.size) <= PICTURE:
        picture.save(buffer, "PNG", optimize=True)
        return "png", buffer.getvalue()
    picture.thumbnail((PICTURE, PICTURE), Image.Resampling.LANCZOS)
    picture.save(buffer, "JPEG", quality=85)
    return "jpg", buffer.getvalue()


def _files(folder: pathlib.Path) -> dict[str, bytes]:
    paths = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.relative_to(folder).parts[0] not in LEFT_OUT)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _said(text: str) -> None:
    print(text, flush=True)


@contextlib.contextmanager
def _log():
    """While a case runs, what it and its libraries print goes into a file, and not into the terminal of the sweep."""
    text = io.StringIO()
    with tempfile.TemporaryFile() as file:
        kept = os.dup(1), os.dup(2)
        sys.stdout.flush()
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield text
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            for number, original in zip((1, 2), kept, strict=True):
                os.dup2(original, number)
                os.close(original)
            file.seek(0)
            text.write(file.read().decode(errors="replace"))
