"""The page of a sweep in a browser: two settings chosen at will, the table filtered, nothing asked for; and without scripts."""

import dataclasses
import io
import pathlib

import pytest
from PIL import Image

from whydiff.sweep.grid import Planned
from whydiff.sweep.page import write_page
from whydiff.sweep.results import Result

VERDICT = {"causes": [], "unexplained": [], "first_divergence": None, "summary": ""}
CAUSE = {"id": "shift-constant", "stage": "schedule", "probe": "sigmas", "statement": "", "relation": {}, "explained": 1.0, "experiment": ""}
FIRST = {"stage": "schedule", "probe": "sigmas", "step": None, "module": None, "difference": 0.223, "noise_floor": 0.0}


def result(seed, height, dtype, name=None):
    """Differs where height is 32 or more, in float16."""
    settings = {"call.seed": seed, "call.height": height, "candidate.build.dtype": dtype}
    planned = Planned(name or f"seed={seed},height={height},dtype={dtype}", settings, {}, pathlib.Path(), None)
    differs = height >= 32 and dtype == "float16"
    told = VERDICT | ({"verdict": "different", "causes": [CAUSE], "first_divergence": FIRST} if differs else {"verdict": "within_noise"})
    return Result(planned, told, "", 1.0, {"image_difference": height / 100 if differs else 0.0})


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The page's file. One case has a name that would be markup, one came to no answer."""
    folder = tmp_path_factory.mktemp("sweep")
    found = [result(seed, height, dtype) for seed in (0, 1) for height in (16, 32, 48) for dtype in ("float32", "float16")]
    found.append(result(7, 16, "float32", name="</script><b>x"))
    found[0] = dataclasses.replace(found[0], told=None, trouble="set aside: 2 workers died", figures={"set_aside": True})
    picture = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(picture, "PNG")
    for one in found[1:3]:
        (folder / "cases" / one.name).mkdir(parents=True)
        for role in ("reference", "candidate"):
            (folder / "cases" / one.name / f"{role}.png").write_bytes(picture.getvalue())
    return write_page(folder, "sizes <i>& types", found, command="whydiff sweep sizes.yaml")


def cells(page):
    return [[cell.strip() for cell in row.split("\t")] for row in page.locator("#heat tbody").inner_text().splitlines()]


def test_the_page_says_what_was_found_and_nothing_in_it_becomes_markup(page, swept):
    page.goto(swept.as_uri())
    assert "4 of 13 cases differ" in page.locator(".headline").inner_text()
    words = page.locator("main").inner_text()
    assert "sizes <i>& types" in words and "</script><b>x" in words
    assert "The difference appears first at 32, and stays at every larger one." in words
    assert "exactly where" not in page.locator(".causes").inner_text()  # it takes two settings
    assert page.locator(".axis").first.locator("code").inner_text() == "call.height"  # what matters comes before the seed
    assert page.locator(".sheet img").count() == 4
    assert page.locator(".sheet img").first.evaluate("image => image.naturalWidth") == 8
    assert page.complaints == []


def test_any_two_settings_can_be_laid_across_each_other(page, swept):
    page.goto(swept.as_uri())
    assert cells(page) == [["16", "0/3 !", "0/2"], ["32", "0/2", "2/2"], ["48", "0/2", "2/2"]]
    page.select_option("#down", label="call.seed")
    assert cells(page)[0][0] == "0" and len(cells(page)) == 3
    page.select_option("#shown", label="distance of the pictures")
    assert "mean relative distance" in page.locator("#heat-words").inner_text()
    assert cells(page)[1] == ["1", "0", "0.27"]  # of 0, 0.32 and 0.48
    assert page.complaints == []


def test_the_table_shows_only_rows_with_given_words(page, swept):
    page.goto(swept.as_uri())
    page.fill("#words", "shift-constant")
    assert page.locator("#cases tbody tr:visible").count() == 4
    page.fill("#words", "")
    assert page.locator("#cases tbody tr:visible").count() == 13


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_runs_over_the_side_of_the_page(page, swept, width):
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(swept.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_scripts_the_first_pair_and_all_rows_are_there(chromium, swept):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(swept.as_uri())
    assert cells(page)[1] == ["32", "0/2", "2/2"]
    assert page.locator("#cases tbody tr").count() == 13
    assert not page.locator("#words").is_visible()
    context.close()
