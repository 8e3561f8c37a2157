"""Draws the pictures of docs/gallery.md from real evidence: `python docs/pictures/make.py [FOLDER]`.

FOLDER keeps the studies of the cases, so that a second call draws without running anything; without it they are made anew.
With a Chromium on the machine docs/report.png is taken anew, too.
"""

from __future__ import annotations

import pathlib
import shutil
import sys
import tempfile

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image

from whydiff.audits import first_divergence, noise_equality, prompt_embedding_stats, root_cause, schedule_math, vae_round_trip
from whydiff.audits.start_here import image_pair
from whydiff.engine.store import load_or_make
from whydiff.report import views
from whydiff.report.html import write_report
from whydiff.report.stages import stages

HERE = pathlib.Path(__file__).resolve().parent
CASES = HERE.parents[1] / "data" / "cases"
SHEET = ("flux_port", "flux_healthy", "flux_rope", "flux_portrait", "flux_vacuous", "wan_shift")


def main(folder: pathlib.Path) -> None:
    studies = {name: load_or_make(str(CASES / f"{name}.yaml"), folder / name, print) for name in SHEET}
    port, rope, wan = studies["flux_port"], studies["flux_rope"], studies["wan_shift"]
    walked, inside = first_divergence.audit(port).exhibits, first_divergence.audit(rope).exhibits
    noise, tokens = noise_equality.audit(port).exhibits["noise"], prompt_embedding_stats.audit(port).exhibits
    decoding, causes = vae_round_trip.audit(port).exhibits, root_cause.audit(port).exhibits
    sigmas = schedule_math.audit(wan).exhibits
    draw("pipeline", (11, 2.6), lambda ax: views.pipeline(ax, stages(port)))
    draw("pictures", (13, 3.2), lambda axes: views.pictures(axes, image_pair(port)), (1, 4))
    draw("growth", (8, 4.2), lambda ax: views.growth(ax, walked["growth"]))
    draw("stage_strip", (9, 6.5), lambda ax: views.stage_strip(ax, walked["strip"]))
    draw("sigma_schedules", (8, 4.2), lambda ax: views.sigma_schedules(ax, sigmas["sigmas"], sigmas["switches"], sigmas["boundary"]))
    draw("noise_pair", (9, 4), lambda axes: views.noise_pair(axes, **noise), (1, 2))
    draw("token_differences", (11, 2.6), lambda ax: views.token_differences(ax, tokens["tokens"], tokens["labels"], tokens["marks"]))
    draw("latent_channels", (11, 4.2), lambda axes: views.latent_channels(axes, decoding["latents"]), (2, 4))
    draw("round_trip", (13, 3.2), lambda axes: views.round_trip(axes, decoding["trip"]), (1, 4))
    draw("module_tree", (9, 7), lambda ax: views.module_tree(ax, inside["tree"]))
    draw("modules", (9, 4.2), lambda ax: views.modules(ax, inside["modules"]))
    draw("error_profiles", (12, 2.6), lambda axes: views.error_profiles(axes, *inside["profile"]), (1, 4))
    draw("before_after", (9, 6), lambda ax: views.before_after(ax, *causes["undone"]))
    draw("repaired_pictures", (13, 2.6), lambda axes: views.repaired_pictures(axes, root_cause.pictures(port)), (1, 7))
    draw("ranked_causes", (9, 3), lambda ax: views.ranked_causes(ax, causes["effects"]))
    photograph(port, folder)
    figure = plt.figure(figsize=(12, 6.2), layout="constrained")
    views.contact_sheet(figure, [card(study) for study in studies.values()], columns=3)
    save(figure, "contact_sheet")


def photograph(study, folder: pathlib.Path) -> None:
    """The first screens of the report of a study, as docs/report.png; nothing where there is no browser."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        return
    from playwright.sync_api import sync_playwright

    page_of = write_report(study, folder / "report.html", command="whydiff investigate data/cases/flux_port.yaml")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = browser.new_page(viewport={"width": 1180, "height": 1640})
        page.goto(page_of.absolute().as_uri())
        page.screenshot(path=HERE.parent / "report.png")
        browser.close()
    Image.open(HERE.parent / "report.png").convert("RGB").quantize(128).save(HERE.parent / "report.png", optimize=True)


def card(study) -> dict:
    """A study as an item of the contact sheet."""
    words = ", ".join(dict.fromkeys(cause.id for cause in study.verdict.causes))
    return {"title": study.case.title, "verdict": study.verdict.verdict, "words": words} | image_pair(study)


def draw(name: str, size: tuple[float, float], view, axes: tuple[int, int] = (1, 1)) -> None:
    figure, grid = plt.subplots(*axes, figsize=size, layout="constrained")
    view(grid)
    save(figure, name)


def save(figure, name: str) -> None:
    figure.savefig(HERE / f"{name}.png", dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(pathlib.Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as made:
            main(pathlib.Path(made))
