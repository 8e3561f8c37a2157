"""One round of practice, in a process of its own: `python -m whydiff.widgets.round LEVEL SEED FILE [KNOWN-ID ...]`.

A bug may patch more than the pipeline it is planted into; nothing of it must reach the next round or the notebook. What the
player may see, and what only the answer shows, go into FILE as JSON; each line printed says what is being done.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import json
import pathlib
import random
import sys
import textwrap

LEVELS = {
    "easy": "before or after the network: noise, schedule, guidance, decoder, picture",
    "medium": "what the network is given: settings, prompts, steps of the scheduler",
    "hard": "inside a network, across ranks, or left behind by an earlier run",
}
ATTEMPTS = 8  # draws until one shows


def level_of(fault: str) -> str | None:
    """How hard a planted bug is to place, by where the catalogue says it shows first; None for one it does not know."""
    from whydiff.faults.known import KNOWN

    known = KNOWN.get(fault)
    if known is None:
        return None
    if known.probe == "modules" or known.stage in ("model_forward", "state_leakage", "caching_parallel"):
        return "hard"
    early = known.stage in ("rng_noise", "schedule", "guidance", "vae", "latent_handling", "post_processing")
    return "easy" if early and not known.probe.startswith("model_input") else "medium"


def drawn(level: str, seed: int, attempt: int, played: tuple[str, ...] = ()):
    """A plan of this level: a bug that a candidate can carry, its pipeline, and chance, all from the seed."""
    from whydiff.faults.catalogue import load
    from whydiff.faults.fault import FAULTS
    from whydiff.faults.plan import Plan, placed
    from whydiff.faults.right import right_of

    load()
    fitting = [id_ for id_ in sorted(FAULTS) if level_of(id_) == level and "candidate" in right_of(id_).sides]
    ids = [id_ for id_ in fitting if id_ not in played] or fitting
    chosen = random.Random(f"practice/{level}/{seed}/{attempt}").choice(ids)
    plan = dataclasses.replace(placed(Plan("catalogue", chosen, seed, attempt=attempt)), side="candidate")
    trained = [host for host in ("flux", "flux_port") if host in FAULTS[chosen].hosts]  # the others have random weights
    return dataclasses.replace(plan, host=trained[0]) if trained else plan


def played(plan, said) -> dict | None:
    """Plant the plan's bug, diagnose, and give all that a round needs; None where nothing comes of it."""
    import whydiff
    from whydiff.errors import Trouble
    from whydiff.faults.trial import planted

    said("planting a bug into one of two equal pipelines")
    trial = planted(plan)
    said("running both, and looking for it")  # at which places is for the player to find out
    try:
        study = whydiff.study(reference=trial.healthy.pipeline, candidate=trial.faulty.pipeline,
                              call={"reference": trial.healthy.call, "candidate": trial.faulty.call})  # fmt: skip
    except Trouble:
        return None
    return None if study.verdict.verdict != "different" else record(plan, study)


def record(plan, study) -> dict:
    """`shown`: for the player; `hint`: what each stage adds; `truth`: what was planted and what whydiff says."""
    from whydiff.audits.start_here import image_pair
    from whydiff.widgets.board import board
    from whydiff.widgets.pictures import pair

    whole = board(study)
    kind = type(study.lab.sides["reference"].subject).__name__
    shown = {"pictures": pair(image_pair(study)), "board": board(study, blind=True) | {"title": "practice"}, "pipeline": kind}
    hint = [{"name": entry["name"], "adds": entry["adds"]} for entry in whole["stages"] if entry["adds"] is not None]
    return {"shown": shown, "hint": hint, "truth": truth(plan.id, plan.host) | {"board": whole, "first": study.verdict.first_divergence}}


def truth(fault: str, host: str) -> dict:
    """What was planted: its id, meaning and code, and which answers count as right."""
    from whydiff.causes.table import CAUSES
    from whydiff.faults.fault import FAULTS
    from whydiff.faults.known import KNOWN
    from whydiff.faults.right import right_of

    known = {kind.id: kind for kind in CAUSES}
    right, meaning = right_of(fault), known[fault].meaning if fault in known else fault.replace("-", " ")
    ids = right.ids(fault, "candidate")
    alike = {other for id_ in ids if id_ in known for other in known[id_].equivalent}
    return {"id": fault, "meaning": meaning, "host": host, "ids": sorted(ids | alike), "stages": sorted({KNOWN[fault].stage, *right.stages}),
            "code": textwrap.dedent(inspect.getsource(FAULTS[fault].inject))}  # fmt: skip


def main(arguments: list[str]) -> int:
    level, seed, file, *done = arguments
    answers = sys.stdout

    def said(text: str) -> None:
        print(text, file=answers, flush=True)

    said("loading the pipelines")
    with contextlib.redirect_stdout(sys.stderr):  # what sides print is nobody's
        for attempt in range(ATTEMPTS):
            found = played(drawn(level, int(seed), attempt, tuple(done)), said)
            if found is not None:
                pathlib.Path(file).write_text(json.dumps(found), encoding="utf-8")
                return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
