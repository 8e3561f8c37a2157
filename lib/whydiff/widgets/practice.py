"""Practice: a bug of the catalogue is planted where nobody sees it; look, guess, and see how whydiff found it."""

from __future__ import annotations

import json
import pathlib
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable

from whydiff.causes.table import CAUSES
from whydiff.errors import Trouble, did_you_mean
from whydiff.places import STAGES
from whydiff.report.stages import STAGE_NAMES
from whydiff.widgets import stills
from whydiff.widgets.exhibit import Exhibit
from whydiff.widgets.round import LEVELS

CAUSE_POINTS, STAGE_POINTS, HINT_COSTS = 2, 1, 1


class Practice(Exhibit):
    """Rounds of one bug each. `answer` guesses from code what the page guesses by mouse; `score` says how it stands.

    `level`: one of LEVELS. `seed`: draws the bugs; None: other ones each time. Raises Trouble for an unknown level.
    """

    def __init__(self, level: str = "easy", seed: int | None = None, said: Callable[[str], None] | None = None, play=None):
        if level not in LEVELS:
            raise Trouble(f"level {level!r}: unknown.{did_you_mean(level, LEVELS)} Known: {', '.join(LEVELS)}.")
        self._draw = random.Random(seed)
        self._play = play or in_a_process
        self._told = said
        self._done: list[dict] = []
        self._start(level)
        still = stills.figure(stills.captioned(self.data["pictures"]), "One of the two has a bug. Finding it takes a running kernel.")
        super().__init__(self.data, still, "practice: find the bug", height=1300)

    def answer(self, place: str = "", cause: str = "") -> str:
        """Guess the stage and the cause, and read the answer; with both empty only the question. Raises Trouble for unknown words."""
        if not place and not cause:
            return f"Which stage ({', '.join(STAGES)}) and which cause (`whydiff causes` lists them)?"
        if place and place not in STAGES:
            raise Trouble(f"place {place!r}: no such stage.{did_you_mean(place, STAGES)} Known: {', '.join(STAGES)}.")
        known = [kind.id for kind in CAUSES]
        if cause and cause not in known:
            raise Trouble(f"cause {cause!r}: no such cause.{did_you_mean(cause, known)}")
        self._guess(place, cause)
        told = self.data["answer"]
        found = ", ".join(told["found"]) or "nothing that it can name"
        return f"{told['words']} Planted was {told['id']}: {told['meaning']}. whydiff found {found}."

    @property
    def score(self) -> dict:
        """Points, how many there could have been, and the rounds that were answered."""
        points, possible = sum(done["points"] for done in self._done), (CAUSE_POINTS + STAGE_POINTS) * len(self._done)
        return {"points": points, "possible": possible, "rounds": len(self._done)}

    def asked(self, request: dict) -> None:
        """A guess, a request for the hint, or for the next round."""
        what, value = request.get("what"), request.get("value") or {}
        if what == "guess" and not self.data["answer"]:
            self._guess(str(value.get("place", "")), str(value.get("cause", "")).strip())
        elif what == "hint":
            self.show(self.data | {"hint": self._round["hint"]})
        elif what == "next" and value in LEVELS:
            self.tell("the next round is prepared …", busy=True)
            try:
                self._start(value)
            except Exception as error:  # whatever went wrong, the page must not wait for ever
                self.tell(f"The next round could not be prepared: {error}", failed=True)
            else:
                self.tell("")

    def _start(self, level: str) -> None:
        self._round = self._play(level, self._draw.randrange(2**32), [done["id"] for done in self._done], self._said)
        data = {"kind": "practice", "level": level, "levels": LEVELS, "round": len(self._done) + 1, **self._round["shown"], "answer": None,
                "hint": None, "score": self.score, "stages": [[stage, STAGE_NAMES[stage]] for stage in STAGES],
                "causes": [[kind.id, kind.meaning] for kind in CAUSES]}  # fmt: skip
        if hasattr(self, "_live"):
            self.show(data)
        self.data = data

    def _said(self, text: str) -> None:
        if hasattr(self, "_live"):
            self.tell(f"{text} …", busy=True)
        if self._told is not None:
            self._told(text)

    def _guess(self, place: str, cause: str) -> None:
        if self.data["answer"]:
            raise Trouble("this round is answered already; ask for the next one on the page, or make a new Practice.")
        told = judged(self._round["truth"], place, cause, hinted=self.data["hint"] is not None)
        self._done.append(told)
        self.show(self.data | {"answer": told, "score": self.score})


def judged(truth: dict, place: str, cause: str, hinted: bool = False) -> dict:
    """What a guess is worth, with the truth: a cause counts where no tensor could tell it from the planted one."""
    right_cause = cause in truth["ids"]
    right_place = place in truth["stages"] or place == (truth["first"] or {}).get("stage")
    points = max(0, CAUSE_POINTS * right_cause + STAGE_POINTS * right_place - HINT_COSTS * hinted)
    words = {(True, True): "Found: place and cause are right.", (False, True): "The place is right, the cause is another one.",
             (True, False): "The cause is right, though it shows elsewhere.", (False, False): "It was something else."}  # fmt: skip
    found = [cause["id"] for stage in truth["board"]["stages"] for cause in stage["causes"]]
    return {"words": words[right_cause, right_place], "points": points, "place": place, "cause": cause, "found": found,
            "named": bool(set(found) & set(truth["ids"])), **{key: truth[key] for key in ("id", "meaning", "host", "code", "board")}}  # fmt: skip


def in_a_process(level: str, seed: int, done: list[str], said: Callable[[str], None]) -> dict:
    """A round, drawn and diagnosed by `whydiff.widgets.round`. Raises Trouble where it came to nothing."""
    with tempfile.TemporaryDirectory(prefix="whydiff-practice-") as folder:
        file = pathlib.Path(folder) / "round.json"
        command = [sys.executable, "-m", "whydiff.widgets.round", level, str(seed), str(file), *done]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            for line in process.stdout:
                said(line.strip())
        if not file.is_file():
            raise Trouble(f"no round came about (level {level}, exit status {process.returncode}); run the cell again for another one.")
        return json.loads(file.read_text(encoding="utf-8"))
