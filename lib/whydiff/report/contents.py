"""What the report shows, gathered from a study: plain words and values, no markup."""

from __future__ import annotations

import datetime

from whydiff import __version__
from whydiff.audits import module_tree, root_cause
from whydiff.report import html_pictures as pictures
from whydiff.report.exhibits import before_after, exhibits
from whydiff.report.headline import headline
from whydiff.report.settings import configuration_rows, environments, producers, settings_rows
from whydiff.report.stages import STAGE_NAMES, stages
from whydiff.report.views.pipeline import loudness_words
from whydiff.verdict import rounded, where


def contents(study, *, notebooks: list[str], command: str, kept: dict) -> dict:
    verdict = study.verdict.to_dict()
    names = {role: getattr(study.case, role).name or role for role in ("reference", "candidate")}
    repairs = list(root_cause.repairs(study))
    return {
        "title": study.case.title or study.case.name, "verdict": verdict, "headline": headline(study, repairs),
        "names": names, "where": where, "stages": stages(study), "causes": ranked(verdict["causes"]), "images": images(study, names),
        "parameters": settings_rows(study), "configuration": configuration_rows(study), "environments": environments(study),
        "producers": producers(study), "probes": probe_rows(study), "exhibits": exhibits(study), "proof": proof(study, repairs, names),
        "alone": {repair.undone: before_after(repair, f"undone-{i}", repair is repairs[-1]) for i, repair in enumerate(repairs) if repair.changes},
        "modules": modules(kept.get("first_divergence", {})), "audits": audits(verdict["audits"], notebooks), "command": command,
        "version": __version__, "written": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "loudness": loudness_words, "share": share(verdict["causes"]), "floor_source": study.lab.floor.source,
    }  # fmt: skip


def ranked(causes: list[dict]) -> list[dict]:
    """Causes with the largest share of the image first; `number` is the place in pipeline order."""
    numbered = [cause | {"number": i} for i, cause in enumerate(causes, 1)]
    return sorted(numbered, key=lambda c: (0, 0) if c["image_effect"] is None else (1, -c["image_effect"]))


def proof(study, repairs: list, names: dict) -> dict | None:
    """What runs with causes undone show: pictures from the candidate's over each repair to the reference's, and the sentence."""
    if not repairs:
        return None
    last = repairs[-1]
    left = "nothing, every tensor is equal bit for bit" if last.equal else "nothing beyond noise" if last.agrees else "a part, see below"
    shown = [{"title": title, "words": words, "png": pictures.png([pictures.middle(picture)], 512)}
             for title, words, picture in root_cause.pictures(study, names) if picture is not None]  # fmt: skip
    return {"pictures": shown if len(shown) > 2 else [], "undone": last.undone, "left": left, "closed": last.agrees, "count": len(repairs)}


def modules(kept: dict) -> dict | None:
    """The tree of modules that an audit looked into, with its step; None where none was."""
    tree = module_tree.tree(kept.get("modules") or [])
    return None if tree is None else {"tree": tree, "step": kept.get("step"), "count": len(kept["modules"])}


def share(causes: list[dict]) -> bool:
    return any(cause["image_effect"] is not None for cause in causes)


def images(study, names: dict) -> dict | None:
    """Both pictures and their difference, as PNG; None where no side has one."""
    found = {role: trace.get("image") if trace is not None else None
             for role, trace in (("reference", study.reference), ("candidate", study.candidate))}  # fmt: skip
    if not any(image is not None for image in found.values()):
        return None
    shown = {role: {"label": f"{role}: {names[role]}", "png": pictures.png(pictures.frames(image)), "size": _size(image),
                    "small": image.shape[-2] < 300} for role, image in found.items() if image is not None}  # fmt: skip
    result = {"shown": shown, "difference": None, "figures": "", "why": ""}
    if len(shown) < 2:
        return result | {"why": "Only one side has a picture."}
    reference, candidate = found["reference"], found["candidate"]
    if reference.shape != candidate.shape:
        return result | {"why": f"The pictures have different sizes ({_size(reference)} against {_size(candidate)}), "
                                "so there is no difference picture."}  # fmt: skip
    difference, limit = pictures.signed(reference, candidate)
    return result | {"difference": difference, "limit": limit, "seen": pictures.seen(reference, candidate),
                     "figures": _figures(reference, candidate)}  # fmt: skip


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


def audits(found: list[dict], notebooks: list[str]) -> list[dict]:
    """The audits with the notebook of each, for a link that works beside the report."""
    stems = {n.removesuffix(".ipynb"): n for n in notebooks}
    return [audit | {"notebook": next((n for stem, n in stems.items() if stem.endswith(audit["name"])), "")} for audit in found]
