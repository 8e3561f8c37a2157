"""The pipeline as a strip: for each stage a sign, a word, the causes that act there, and how loud its difference is."""

from __future__ import annotations

import dataclasses
import math

from whydiff.places import STAGES
from whydiff.report.settings import settings_rows

STAGE_NAMES = {
    "parameters": "parameters", "rng_noise": "initial noise", "prompt_encoding": "prompt encoding", "schedule": "schedule",
    "model_forward": "model", "guidance": "guidance", "scheduler_step": "scheduler step", "latent_handling": "latents",
    "vae": "VAE", "post_processing": "image", "caching_parallel": "across ranks", "state_leakage": "earlier runs",
}  # fmt: skip
STATES = {
    "cause": ("✗", "goes wrong here"), "unexplained": ("?", "unexplained, here"), "inherits": ("→", "inherits"),
    "settings": ("≠", "differ, see below"), "noise": ("≈", "within noise"), "same": ("=", "equal"),
    "declared": ("≈", "declared"), "none": ("·", "not compared"),
}  # fmt: skip
LOUDEST = 1e8  # floors at which the scale of loudness ends: float32 lost altogether


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage. `floors`: its largest difference of whole runs over the noise floor; inf where shapes differ; None if none was compared."""

    stage: str
    name: str
    state: str  # a key of STATES
    causes: tuple[str, ...] = ()
    tensors: int = 0
    difference: float | None = None
    floors: float | None = None
    first: bool = False  # the first divergence is here

    @property
    def sign(self) -> str:
        return STATES[self.state][0]

    @property
    def word(self) -> str:
        return STATES[self.state][1]

    @property
    def loudness(self) -> float:
        """0 within one floor to 1 at LOUDEST floors, by the logarithm."""
        return 0.0 if not self.floors else percent_of_loudest(self.floors) / 100


def percent_of_loudest(floors: float) -> float:
    """0 within one floor to 100 at LOUDEST floors, by the logarithm."""
    return round(100 * min(1.0, max(0.0, math.log10(max(floors, 1.0)) / math.log10(LOUDEST))), 1)


def in_floors(floors: float) -> str:
    """`800 floors`, `2e6 floors`; no number where shapes differ or values are not finite."""
    if not math.isfinite(floors):
        return "other shapes"
    if floors < 1e4:
        return "equal" if floors == 0 else f"{floors:.2g} floors" if floors < 100 else f"{floors:.0f} floors"
    return f"{floors:.0e} floors".replace("e+0", "e").replace("e+", "e")


def stages(study) -> list[Stage]:
    """One entry for each stage of the pipeline, in its order; leaks and ranks only where something was found there."""
    verdict, strip = study.verdict, []
    first = (verdict.first_divergence or {}).get("stage")
    for stage in STAGES:
        causes = tuple(dict.fromkeys(cause.id for cause in verdict.causes if cause.stage == stage))
        unexplained = any(entry["stage"] == stage for entry in verdict.unexplained)
        if stage in ("caching_parallel", "state_leakage") and not (causes or unexplained):
            continue
        rows = [row for row in study.rows if row.place.stage == stage]
        standing = [row.difference for row in rows if row.stands_out and row.difference is not None]
        strip.append(Stage(stage, STAGE_NAMES[stage], _state(study, stage, rows, bool(causes), unexplained), causes, len(rows),
                           max(standing, default=None), max((row.floors for row in rows), default=None), stage == first))  # fmt: skip
    return strip


def _state(study, stage: str, rows: list, cause: bool, unexplained: bool) -> str:
    if cause or unexplained:
        return "cause" if cause else "unexplained"
    if stage == "parameters":
        return _told(study)
    if any(entry["stage"] == stage for entry in study.verdict.declared):
        return "declared"
    if any(row.stands_out for row in rows):
        return "inherits"
    return "none" if not rows else "same" if all(row.equal for row in rows) else "noise"


def _told(study) -> str:
    """The state of the settings, which are no tensors: those that both sides state."""
    known = [row for row in settings_rows(study) if row["both"]]
    return "none" if not known else "settings" if any(row["differs"] for row in known) else "same"
