"""What the report shows, gathered from a study: plain words and values, no markup."""

from __future__ import annotations

import datetime

from whydiff import __version__
from whydiff.places import STAGES
from whydiff.report import html_pictures as pictures
from whydiff.report.settings import environments, producers, settings_rows
from whydiff.verdict import rounded, where

WORDS = {
    "same": "The two sides agree bit for bit",
    "within_noise": "The two sides agree",
    "precision": "They differ only by what was declared",
    "different": "The two sides differ",
    "incomparable": "Nothing could be compared",
    "vacuous": "Agreement proves nothing here",
}
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


def contents(study, *, notebooks: list[str], command: str) -> dict:
    verdict = study.verdict.to_dict()
    names = {role: getattr(study.case, role).name or role for role in ("reference", "candidate")}
    return {
        "title": study.case.title or study.case.name, "verdict": verdict, "headline": WORDS[verdict["verdict"]],
        "names": names, "where": where, "stages": stages(study), "causes": ranked(verdict["causes"]), "images": images(study, names),
        "parameters": settings_rows(study), "environments": environments(study), "producers": producers(study),
        "probes": probe_rows(study), "schedules": schedules(study, names), "noise": noise(study),
        "audits": audits(verdict["audits"], notebooks), "command": command, "version": __version__,
        "stage_names": STAGE_NAMES, "written": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "profiles": profiles(verdict), "share": share(verdict["causes"]), "floor_source": study.lab.floor.source,
    }  # fmt: skip


def ranked(causes: list[dict]) -> list[dict]:
    """Causes with the largest share of the image first; `number` is the place in pipeline order."""
    numbered = [cause | {"number": i} for i, cause in enumerate(causes, 1)]
    return sorted(numbered, key=lambda c: (0, 0) if c["image_effect"] is None else (1, -c["image_effect"]))


def profiles(verdict: dict) -> list[dict]:
    """Where in its tensor each unexplained difference sits, or the first difference where all are explained: bars by axis."""
    entries = verdict["unexplained"] or [verdict["first_divergence"] or {}]
    return [{"place": where(entry), "bars": [{"axis": axis["axis"], "size": axis["size"], "svg": pictures.profile_bars(axis)}
                                             for axis in entry["profile"]]}
            for entry in entries if entry.get("profile")]  # fmt: skip


def share(causes: list[dict]) -> bool:
    return any(cause["image_effect"] is not None for cause in causes)


def stages(study) -> list[dict]:
    """One entry for each stage of the pipeline: a sign, a word, and the causes that act there."""
    verdict, strip = study.verdict, []
    for stage in STAGES:
        causes = [cause.id for cause in verdict.causes if cause.stage == stage]
        unexplained = [entry for entry in verdict.unexplained if entry["stage"] == stage]
        rows = [row for row in study.rows if row.place.stage == stage]
        if stage in ("caching_parallel", "state_leakage") and not (causes or unexplained):
            continue
        standing = [row for row in rows if row.stands_out]
        if stage == "parameters" and not (causes or unexplained):
            state = _told(study)
        elif causes or unexplained:
            state = "cause" if causes else "unexplained"
        elif any(entry["stage"] == stage for entry in verdict.declared):
            state = "declared"
        elif standing:
            state = "inherits"
        else:
            state = "none" if not rows else "same" if all(row.equal for row in rows) else "noise"
        sign, word = STATES[state]
        worst = max((row.difference for row in standing if row.difference is not None), default=None)
        strip.append({"stage": stage, "name": STAGE_NAMES[stage], "state": state, "sign": sign, "word": word,
                      "causes": list(dict.fromkeys(causes)), "difference": worst, "tensors": len(rows)})  # fmt: skip
    return strip


def _told(study) -> str:
    """The state of the settings, which are no tensors: those that both sides state."""
    known = [row for row in settings_rows(study) if row["both"]]
    return "none" if not known else "settings" if any(row["differs"] for row in known) else "same"


def images(study, names: dict) -> dict | None:
    """Both pictures and their difference, as PNG; None where no side has one."""
    found = {role: trace.get("image") if trace is not None else None
             for role, trace in (("reference", study.reference), ("candidate", study.candidate))}  # fmt: skip
    if not any(image is not None for image in found.values()):
        return None
    shown = [{"label": f"{role}: {names[role]}", "png": pictures.png(pictures.frames(image)), "size": _size(image)}
             for role, image in found.items() if image is not None]  # fmt: skip
    result = {"shown": shown, "difference": None, "factor": None, "figures": "", "why": ""}
    if len(shown) < 2:
        return result | {"why": "Only one side has a picture."}
    reference, candidate = found["reference"], found["candidate"]
    if reference.shape != candidate.shape:
        return result | {"why": f"The pictures have different sizes ({_size(reference)} against {_size(candidate)}), "
                                "so there is no difference picture."}  # fmt: skip
    grey, factor = pictures.difference(reference, candidate)
    return result | {"difference": pictures.png(grey), "factor": factor, "figures": _figures(reference, candidate)}


def _size(image) -> str:
    height, width = image.shape[-3:-1]
    frames = f", {image.shape[1]} frames" if image.ndim == 5 else ""
    return f"{width} × {height} pixels{frames}"


def _figures(reference, candidate) -> str:
    from whydiff.measure.pictures import compare_pictures

    if min(reference.shape[-3:-1]) < 3:
        return ""
    return str(compare_pictures(reference, candidate))


def probe_rows(study) -> list[dict]:
    """For each probe the largest difference of whole runs, and what its stage adds on equal inputs."""
    added: dict[str, object] = {}
    for row in study.added:
        _keep_larger(added, row)
    whole: dict[str, object] = {}
    counts: dict[str, int] = {}
    for row in study.rows:
        if row.place.probe.startswith("modules"):
            continue
        counts[row.place.probe] = counts.get(row.place.probe, 0) + 1
        _keep_larger(whole, row)
    rows = []
    for probe, row in whole.items():
        extra = added.get(probe)
        rows.append({"stage": STAGE_NAMES[row.place.stage], "probe": probe, "count": counts[probe], "place": str(row.place),
                     "difference": rounded(row.difference), "floor": rounded(row.floor), "why": row.why, "stands": row.stands_out,
                     "equal": row.equal, "added": None if extra is None else rounded(extra.difference),
                     "added_why": "" if extra is None else extra.why, "adds": extra is not None and extra.stands_out})  # fmt: skip
    return rows


def _keep_larger(kept: dict, row) -> None:
    def size(r):
        return float("inf") if r.difference is None else r.difference

    if row.place.probe not in kept or size(row) > size(kept[row.place.probe]):
        kept[row.place.probe] = row


def schedules(study, names: dict) -> list[dict]:
    """Sigmas and timesteps of both sides as curves."""
    shown = []
    for probe, label in (("sigmas", "sigma (1 = noise, 0 = image)"), ("timesteps", "timestep")):
        series = {}
        for role, trace in (("reference", study.reference), ("candidate", study.candidate)):
            tensor = trace.get(probe) if trace is not None else None
            if tensor is not None and tensor.ndim == 1 and tensor.numel() > 1:
                series[f"{role}: {names[role]}"] = [float(v) for v in tensor]
        if series:
            shown.append({"probe": probe, "label": label, "svg": pictures.curves(series, label), "names": list(series)})
    return shown


def noise(study) -> list[dict]:
    """The initial noise of both sides, as far as recorded, in the recorded shape."""
    shown = []
    for role, trace in (("reference", study.reference), ("candidate", study.candidate)):
        tensor = trace.get("initial_noise") if trace is not None else None
        if tensor is not None and tensor.ndim >= 2 and tensor.is_floating_point():
            axes = "channel 0, height by width" if tensor.ndim >= 4 else "tokens by channels"
            values = tensor.float()
            shown.append({"role": role, "png": pictures.heat(values.numpy()), "shape": list(tensor.shape), "axes": axes,
                          "mean": rounded(float(values.mean())), "std": rounded(float(values.std(correction=0)))})  # fmt: skip
    return shown


def audits(found: list[dict], notebooks: list[str]) -> list[dict]:
    """The audits with the notebook of each, for a link that works beside the report."""
    stems = {n.removesuffix(".ipynb"): n for n in notebooks}
    return [audit | {"notebook": next((n for stem, n in stems.items() if stem.endswith(audit["name"])), "")} for audit in found]
