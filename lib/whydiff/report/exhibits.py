"""The views of the report: each a figure of `report.views` as inline SVG, with a title and what to notice."""

from __future__ import annotations

import math

from whydiff.audits import first_divergence, noise_equality, prompt_embedding_stats, schedule_math, vae_round_trip
from whydiff.audits.judge import both
from whydiff.report import views
from whydiff.report.svg import inline


def exhibits(study) -> list[dict]:
    """{"id", "title", "note", "svg", "open"} of each view that has something to show, in the order of the pipeline."""
    made = (_growth, _probes, _profile, _noise, _tokens, _sigmas, _latents)
    return [found for view in made if (found := view(study)) is not None]


def _figure(rows: int = 1, columns: int = 1, size: tuple[float, float] = (8, 4)):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt.subplots(rows, columns, figsize=size, layout="constrained")


def _exhibit(name: str, title: str, note: str, figure, shown: bool = False) -> dict:
    return {"id": name, "title": title, "note": note, "svg": inline(figure, title, name), "open": shown}


def _growth(study) -> dict | None:
    growth = first_divergence.growth(study)
    if not growth["inherited"]:
        return None
    figure, ax = _figure(size=(8, 3.8))
    views.growth(ax, growth)
    return _exhibit("growth", "How the difference grows over the steps", "A line that starts high was lost before the first step; one that "
                    "climbs, a little at every step. The dashed line is what one step adds when it is given the reference's inputs.",
                    figure, not study.verdict.agrees)  # fmt: skip


def _probes(study) -> dict | None:
    strip = list(first_divergence.strip(study))
    strip = [entry for entry in strip if not entry[0].startswith("modules")]
    if not strip:
        return None
    figure, ax = _figure(size=(8, 1.6 + 0.24 * len(strip)))
    views.stage_strip(ax, strip)
    return _exhibit("probes", "Who adds a difference, and who only inherits one", "Hatched: as the two sides ran. Solid: what the place adds "
                    "when it is given the reference's inputs.", figure, not study.verdict.agrees)  # fmt: skip


def _profile(study) -> dict | None:
    profile, place = first_divergence.profile(study)
    if not profile:
        return None
    figure, axes = _figure(1, max(2, len(profile)), (9, 2.5))
    views.error_profiles(axes, profile)
    return _exhibit("profile", f"Where in its tensor the difference sits: {place}", "The share of the squared error at each index. Even bars: "
                    "it is everywhere. One tall bar: it is there.", figure, bool(study.verdict.unexplained))  # fmt: skip


def _noise(study) -> dict | None:
    pair = noise_equality.draws(study)
    if pair["reference"] is None:
        return None
    figure, axes = _figure(1, 2, (9, 3.9))
    views.noise_pair(axes, **pair)
    return _exhibit("noise", "Initial noise", "Two draws may have one distribution and nothing else in common: only the right picture tells.", figure)


def _tokens(study) -> dict | None:
    tokens = prompt_embedding_stats.differences(study)
    if not tokens:
        return None
    figure, ax = _figure(size=(9, 1.7 + 0.35 * len(tokens)))
    views.token_differences(ax, tokens, prompt_embedding_stats.labels(study), prompt_embedding_stats.marks(study))
    return _exhibit("tokens", "Prompt, token by token", "The darker, the further from the reference's embedding; hatched: padding, or hidden by "
                    "a mask.", figure)  # fmt: skip


def _sigmas(study) -> dict | None:
    sigmas = {role: schedule_math.as_sigmas(study, role) for role in ("reference", "candidate")}
    if all(values is None or values.ndim != 1 or values.numel() < 2 for values in sigmas.values()):
        return None
    figure, ax = _figure(size=(8, 3.8))
    curves = {role: None if values is None else values.double().numpy() for role, values in sigmas.items()}
    switches = {role: schedule_math.expert_switch(study.lab, role) for role in sigmas}
    views.sigma_schedules(ax, curves, switches, schedule_math.boundary(study))
    return _exhibit("sigmas", "Noise levels", "Sigmas as each side walks them, and where a second expert takes over.", figure)


def _latents(study) -> dict | None:
    latents = {role: vae_round_trip.channels(value) for role, value in both(study, "vae_latents").items()}
    if all(value is None for value in latents.values()):
        return None
    figure, axes = _figure(2, 4, (9, 3.9))
    views.latent_channels(axes, latents)
    return _exhibit("latents", "What the decoder receives", "Both rows share one scale: equal patterns with other contrast mean a factor, with "
                    "another tint a shift.", figure)  # fmt: skip


def before_after(repair, name: str, whole: bool) -> dict:
    """The chart of one repair (`audits.root_cause.Repair`); unless it is `whole`, without the probes that it does not move."""
    changes = [entry for entry in repair.changes if whole or entry is repair.changes[-1] or moved(*entry[1:])]
    figure, ax = _figure(size=(8, 1.7 + 0.24 * len(changes)))
    views.before_after(ax, changes, repair.undone)
    return _exhibit(name, f"Before and after: {repair.undone} undone", "", figure)


def moved(before: float, after: float | None) -> bool:
    """Is the difference another one than before, to the eye?"""
    return after is None or not math.isclose(before, after, rel_tol=0.05)
