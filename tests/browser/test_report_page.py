"""The report in a real browser: opened as a file, by keyboard, on paper, in the dark, without a script, and with hostile text."""

import copy
import time
from urllib.request import urlopen

import pytest
import torch

import whydiff
from whydiff.engine.api import study as make_study
from whydiff.report.html import write_report

PAIRS = [{"reference": "t/x.in", "candidate": "t/in", "difference": 0.0, "floor": 1e-7, "first": False},
         {"reference": "t/x.0", "candidate": "t/blocks.0.attn", "difference": 1e-3, "floor": 1e-7, "first": True}]  # fmt: skip
EVIL = ("<script>window.harmed = 'script'</script><img src=x onerror=\"window.harmed = 'image'\"><svg onload=\"window.harmed = 'svg'\">"
        "\"' onmouseover=\"window.harmed = 'attribute'\" javascript:window.harmed='link' </style></title></script>")  # fmt: skip


def sampler(scale=1.0, factor=1.0):
    """Three steps of a toy network; its noise may be scaled, and its timestep."""

    def pipe(prompt="a circle", seed=0):
        latents = whydiff.tap("initial_noise", torch.randn(1, 4, 24, 32, generator=torch.Generator().manual_seed(seed)) * scale)
        embeds = whydiff.tap("prompt_embeds", torch.linspace(0, 1, 24).reshape(1, 6, 4))
        for k in range(3):
            t = whydiff.tap("model_input/timestep", torch.tensor([0.9 - 0.3 * k]) * factor, step=k)
            made = whydiff.tap("noise_pred_text", torch.tanh(latents) * t.sin() + embeds.mean(), step=k)
            latents = whydiff.tap("latents", latents - 0.3 * made, step=k)
        return whydiff.tap("image", torch.sigmoid(latents.movedim(1, -1)[..., :3]))

    return pipe


@pytest.fixture(scope="module")
def study():
    found = make_study(reference=sampler(), candidate=sampler(0.5, 0.001), call={"prompt": "a circle", "seed": 0})
    found.case.title, found.case.reference.name, found.case.candidate.name = "a toy", "original", "port"
    found.verdict.audits = [{"name": "noise_equality", "verdict": "different", "findings": ["the noise is scaled."]}]
    return found


@pytest.fixture(scope="module")
def report(study, tmp_path_factory):
    """The address of a report of two causes."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(study, path, command="whydiff investigate toy.yaml", kept={"first_divergence": {"modules": PAIRS, "step": 0}})
    return path.as_uri()


@pytest.fixture
def opened(page, report):
    page.goto(report)
    yield page
    assert page.complaints == []


def shown(page, selector: str) -> bool:
    return page.locator(selector).is_visible()


def test_what_is_wrong_and_how_one_knows_is_on_the_first_screen(opened):
    sentence = opened.locator("h1").inner_text()
    assert sentence == "Port makes another picture than original for 2 reasons; with both undone, the pictures are equal bit for bit."
    for selector in ("h1", ".short li:last-child", ".known", ".reference img", ".candidate img"):
        box = opened.locator(selector).bounding_box()
        assert box["y"] + box["height"] <= 900, selector


def test_the_page_opens_within_a_second_and_is_small(page, report, record_property):
    page.goto("about:blank")
    started = time.perf_counter()
    page.goto(report)
    took = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    size = len(page.content())
    record_property("seconds to load", took / 1000)
    record_property("bytes", size)
    assert took < 1000 or time.perf_counter() - started < 1  # on a machine with other work, either clock may be the fairer
    assert size < 5_000_000 and page.complaints == []


def test_two_pictures_are_swiped_with_the_keyboard_alone(opened):
    for _ in range(20):
        opened.keyboard.press("Tab")
        if opened.evaluate("document.activeElement.value") == "swipe":
            break
    opened.keyboard.press("Enter")
    assert opened.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    slider = opened.locator(".compare input")
    slider.focus()
    before = opened.locator(".candidate img").evaluate("it => getComputedStyle(it).clipPath")
    for _ in range(10):
        opened.keyboard.press("ArrowRight")
    assert slider.input_value() == "60"
    assert before == "inset(0px 0px 0px 50%)" and "60%" in opened.locator(".candidate img").evaluate("it => getComputedStyle(it).clipPath")


def test_two_pictures_are_swiped_with_the_mouse(opened):
    opened.locator(".controls button[value=swipe]").click()
    box = opened.locator(".pair").bounding_box()
    opened.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 40)
    opened.mouse.down()
    opened.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 40)
    opened.mouse.up()
    assert opened.locator(".compare input").input_value() == "25"


def test_blink_shows_one_and_then_the_other_and_stops(opened):
    opened.locator(".controls button[value=blink]").click()
    value = "document.querySelector('.compare input').value"
    seen = set()
    for _ in range(30):
        seen.add(opened.evaluate(value))
        opened.wait_for_timeout(100)
    assert seen == {"0", "100"}
    opened.locator(".controls button[value=side]").click()
    assert opened.evaluate(value) == "50"
    opened.wait_for_timeout(900)
    assert opened.evaluate(value) == "50"


def test_difference_and_what_is_seen_of_it_are_shown_large(opened):
    small = opened.locator("figure.difference img").bounding_box()["width"]
    opened.locator(".controls button[value=difference]").click()
    assert opened.locator("figure.difference img").bounding_box()["width"] > 1.8 * small
    assert not shown(opened, "figure.seen") and not shown(opened, ".pair")
    opened.locator(".controls button[value=seen]").click()
    assert shown(opened, "figure.seen") and not shown(opened, "figure.difference")


def test_evidence_folds_by_keyboard_and_a_link_opens_what_it_leads_to(opened):
    part = opened.locator("#numbers")
    assert part.get_attribute("open") is None
    part.locator("summary").focus()
    opened.keyboard.press("Enter")
    assert part.get_attribute("open") is not None and shown(opened, "#numbers table")
    assert not shown(opened, "#tokens svg")
    opened.evaluate("location.hash = '#tokens'")
    opened.locator("#tokens svg").wait_for(state="visible")
    opened.locator("#fold").click()
    assert opened.locator("details:not([open])").count() == 0
    opened.locator("#fold").click()
    assert opened.locator("details[open]").count() == 0


def test_the_tree_opens_down_to_the_module_that_departs(opened):
    assert shown(opened, "#modules .leaf >> text=first to depart")


def test_the_theme_is_the_system_s_until_somebody_chooses(opened):
    paper = "getComputedStyle(document.body).backgroundColor"
    ink = "getComputedStyle(document.querySelector('svg.view')).fill"
    light = opened.evaluate(paper), opened.evaluate(ink)
    opened.emulate_media(color_scheme="dark")
    dark = opened.evaluate(paper), opened.evaluate(ink)
    assert light[0] == "rgb(255, 255, 255)" and dark[0] == "rgb(20, 23, 28)" and light[1] != dark[1]
    opened.locator("#theme").focus()
    opened.keyboard.press("Enter")
    assert (opened.evaluate(paper), opened.evaluate(ink)) == light
    opened.emulate_media(color_scheme="light")
    opened.locator("#theme").click()
    assert opened.evaluate(paper) == dark[0]


def test_on_paper_all_is_open_light_and_within_the_sheet(opened):
    opened.emulate_media(color_scheme="dark", media="print")
    opened.set_viewport_size({"width": 720, "height": 1000})
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not shown(opened, ".controls") and not shown(opened, "#theme") and shown(opened, ".pair") and shown(opened, "figure.seen")
    opened.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert opened.locator("details:not([open])").count() == 0
    widest = opened.evaluate("Math.max(...[...document.querySelectorAll('img, svg, table, pre')].map((it) => it.getBoundingClientRect().right))")
    assert widest <= 721
    opened.evaluate("dispatchEvent(new Event('afterprint'))")
    assert opened.locator("details:not([open])").count() > 0
    assert len(opened.pdf(format="A4")) > 20_000


def test_a_telephone_scrolls_down_and_never_sideways(opened):
    opened.set_viewport_size({"width": 400, "height": 800})
    assert opened.evaluate("document.documentElement.scrollWidth") == 400
    opened.locator("#fold").click()
    assert opened.evaluate("document.documentElement.scrollWidth") == 400


def test_without_a_script_both_pictures_and_their_difference_stand_side_by_side(chromium, report):
    context = chromium.new_context(java_script_enabled=False, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(report)
    assert all(shown(page, f"figure.{name} img") for name in ("reference", "candidate", "difference", "seen"))
    assert not shown(page, ".controls") and not shown(page, "#theme") and not shown(page, ".compare input")
    page.locator("#numbers summary").click()
    assert shown(page, "#numbers table")
    context.close()


def test_hostile_text_in_every_field_is_text(page, study, tmp_path):
    evil = copy.copy(study)
    evil.case, evil.verdict = study.case.model_copy(deep=True), copy.deepcopy(study.verdict)
    evil.lab = copy.copy(study.lab)
    evil.lab.case = evil.case
    evil.case.title = evil.case.question = evil.verdict.question = evil.verdict.summary = EVIL
    for side in (evil.case.reference, evil.case.candidate):
        side.name, side.settings = f"{EVIL} {side.name}", {"prompt": EVIL, EVIL: EVIL}
    for cause in evil.verdict.causes:
        cause.statement = cause.experiment = cause.fix = EVIL
        cause.module, cause.equivalent = EVIL, [EVIL]
    evil.verdict.notes, evil.verdict.audits = [EVIL], [{"name": EVIL, "verdict": EVIL, "findings": [EVIL]}]
    evil.verdict.unexplained = [{"stage": "vae", "probe": EVIL, "module": EVIL, "difference": 0.1, "noise_floor": 1e-6, "why": EVIL}]
    evil.verdict.compared |= {"unpaired_reference": [EVIL], "layouts": [EVIL]}
    evil.environment = {EVIL: EVIL}
    pairs = [entry | {"candidate": f"t/{EVIL}", "reference": EVIL} for entry in PAIRS]
    path = write_report(evil, tmp_path / "report.html", notebooks=[f"notebooks/{EVIL}.ipynb"], command=EVIL,
                        kept={"first_divergence": {"modules": pairs, "step": 0}})  # fmt: skip
    page.goto(path.as_uri())
    page.locator("#fold").click()
    page.mouse.move(300, 300)
    page.wait_for_timeout(300)
    assert page.evaluate("window.harmed") is None
    assert page.locator("script").count() == 1 and page.locator("img:not([src^='data:image/png'])").count() == 0
    outside = page.evaluate("[...document.querySelectorAll('a')].map((it) => it.getAttribute('href')).filter((it) => /^\\s*\\w+:/.test(it))")
    assert outside == [] and EVIL in page.locator("h1").inner_text() and page.complaints == []


def test_a_script_that_is_not_the_page_s_own_would_not_run(page, report, tmp_path):
    """The belt beside the braces: were escaping to fail, the page's policy would still stop it."""
    text = urlopen(report).read().decode().replace("<main>", "<main><script>window.harmed = 1</script><img src=x onerror='window.harmed = 2'>")
    (tmp_path / "broken.html").write_text(text, encoding="utf-8")
    page.goto((tmp_path / "broken.html").as_uri())
    assert page.evaluate("window.harmed") is None and shown(page, "#theme")
    assert any("Content Security Policy" in said for said in page.complaints)
