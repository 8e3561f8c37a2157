"""The notebooks in a real JupyterLab, by keyboard and mouse: what is chosen is what is shown, and nothing leaves the machine."""

import pathlib

import nbformat
import pytest
from conftest import watched
from playwright.sync_api import expect

pytestmark = pytest.mark.slow
PICTURES = pathlib.Path(__file__).resolve().parents[2] / "reports" / "browser"
IDLE = "() => window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
DONE = """() => { const { sessionContext, content } = window.jupyterapp.shell.currentWidget, cells = content.model.cells;
  const waiting = [...Array(cells.length).keys()].some(i => cells.get(i).type === 'code' && cells.get(i).executionCount === null);
  return !waiting && sessionContext.session.kernel.status === 'idle'; }"""
WAIT = 120_000
expect.set_options(timeout=30_000)  # of what a busy machine shows late


def opened(page, lab, notebook: str, ready: bool = True):
    """The notebook in Lab; with a kernel that is `ready`."""
    page.goto(f"{lab[0]}/lab/workspaces/w{abs(hash(notebook))}/tree/notebooks/{notebook}?token=whydiff&reset", wait_until="domcontentloaded")
    page.wait_for_selector("#jupyterlab-splash", state="detached", timeout=WAIT)
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=WAIT)
    if ready:
        page.wait_for_function(IDLE, timeout=WAIT)
    page.evaluate("() => window.jupyterapp.shell.collapseLeft()")


def run_all(page):
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
    page.wait_for_function(DONE, timeout=WAIT)
    assert page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']").count() == 0


def keep(page, where, name: str):
    """A picture of a part of the page, for somebody to look at."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    where.scroll_into_view_if_needed()
    where.screenshot(path=PICTURES / f"{name}.png")


def quiet(page, expected: str = "Failed to load resource"):
    """What else went wrong on the page since it was last asked. Lab asks for settings that are not there yet, which Chromium tells."""
    found, page.complaints[:] = [*page.complaints], []
    return [line for line in found if expected not in line and "Failed to load resource" not in line]


@pytest.fixture(scope="module")
def page(chromium):
    """One page for all: what Lab consists of is loaded once."""
    with watched(chromium, 1500) as page:
        page.set_default_timeout(30_000)
        yield page


@pytest.fixture(scope="module")
def workbook(page, lab):
    """`00_start_here`, run in Lab and saved as it was then: where it lies."""
    (lab[1] / "data" / "cases" / "broken.yaml").write_text("title: broken\nreference: {trace: nowhere}\ncandidate: {trace: nowhere}\n")
    opened(page, lab, "00_start_here.ipynb")
    run_all(page)
    expect(page.locator(".wd")).to_have_count(3)
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")
    return lab[1] / "notebooks" / "00_start_here.ipynb"


def test_in_lab_the_workbook_is_explored_by_keyboard_and_mouse(page, workbook):
    assert page.locator(".jp-OutputArea iframe:visible, .wd-still:visible").count() == 0
    swiped(page)
    stepped(page)
    explored(page)
    another_case(page)
    assert quiet(page) == []


def test_what_was_saved_is_there_again_when_its_kernel_is_gone(page, lab, workbook):
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    opened(page, lab, workbook.name, ready=False)
    for i in range(3):
        expect(page.locator(".jp-OutputArea iframe").nth(i)).to_be_visible()
    expect(page.get_by_text("model not found").locator("visible=true")).to_have_count(0)
    page.frame_locator(".jp-OutputArea iframe").nth(2).get_by_label("step", exact=True).press("End")
    expect(page.frame_locator(".jp-OutputArea iframe").nth(2).locator(".wd-player output")).to_have_text("latents, step 11")
    assert quiet(page, "widget model not found") == []


def test_a_notebook_that_is_not_trusted_shows_pictures(page, lab, workbook):
    notebook = nbformat.read(workbook, 4)
    notebook.cells[0].source += " (copy)"  # another content, so the signature of the original is not its own
    nbformat.write(notebook, workbook.with_name("copy.ipynb"))
    opened(page, lab, "copy.ipynb", ready=False)
    pictures = page.locator(".jp-OutputArea-output img[src^='data:image']")
    expect(pictures.first).to_be_visible()
    assert pictures.count() == 4 + 3 + 3  # of both sides, their difference and FLIP; of a place in the explorer; of the last step
    assert all(pictures.nth(i).evaluate("img => img.complete && img.naturalWidth > 0") for i in range(pictures.count()))
    assert page.locator(".jp-OutputArea-output iframe, .wd").count() == 0
    assert page.locator(".jp-OutputArea", has_text="goes wrong here").count() == 1
    keep(page, page.locator(".jp-OutputArea", has_text="goes wrong here"), "untrusted")
    assert quiet(page) == []


def test_a_page_made_of_the_notebook_moves_without_a_kernel(page, tmp_path, workbook):
    from nbconvert import HTMLExporter

    text, _ = HTMLExporter(require_js_url="", mathjax_url="", mermaid_js_url="").from_filename(str(workbook))
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    assert len(text) < 3_000_000
    page.goto(f"file://{tmp_path}/page.html")
    frames = page.locator("iframe")
    expect(frames).to_have_count(3)
    pictures, explorer, steps = (page.frame_locator("iframe").nth(i) for i in range(3))
    slider = pictures.get_by_label("swipe between reference and candidate")
    slider.focus()
    slider.press("ArrowLeft")
    expect(pictures.locator(".wd-below output")).to_contain_text("left of 49 %")
    steps.get_by_label("step", exact=True).press("End")
    expect(steps.locator(".wd-player output")).to_have_text("latents, step 11")
    explorer.locator("[data-stage=schedule]").press("Enter")
    expect(explorer.locator("details.wd-cause code", has_text="sigma-grid-endpoints")).to_be_visible()
    page.wait_for_function("() => [...document.querySelectorAll('iframe')].every(frame => frame.clientHeight > 300)")
    keep(page, frames.nth(1), "static_page")
    assert quiet(page) == []


def swiped(page):
    box = page.locator(".wd-pictures")
    slider = box.get_by_label("swipe between reference and candidate")
    slider.focus()
    for _ in range(3):
        slider.press("ArrowRight")
    expect(box.locator(".wd-below output")).to_contain_text("left of 53 %")
    assert box.locator(".wd-pane").evaluate("pane => getComputedStyle(pane.querySelector('.wd-over')).clipPath").endswith("53%)")
    keep(page, box, "swipe")
    box.get_by_label("side by side").check()
    box.get_by_label("zoom in").click()
    panes = box.locator(".wd-pane")
    panes.nth(0).evaluate("pane => pane.scrollTo(80, 40)")
    expect(panes).to_have_count(2)
    page.wait_for_function("() => document.querySelectorAll('.wd-pictures .wd-pane')[1].scrollLeft === 80")
    keep(page, box, "side_by_side")
    box.get_by_label("FLIP").check()
    keep(page, box, "flip")


def stepped(page):
    box = page.locator(".wd-steps")
    box.get_by_label("channel").select_option("1")
    before = box.locator(".wd-map canvas").nth(1).evaluate("canvas => canvas.toDataURL()")
    slider = box.get_by_label("step", exact=True)
    slider.focus()
    slider.press("ArrowRight")
    slider.press("ArrowRight")
    expect(box.locator(".wd-player output")).to_have_text("latents, step 2")
    assert box.locator(".wd-map canvas").nth(1).evaluate("canvas => canvas.toDataURL()") != before
    keep(page, box, "steps")
    box.get_by_label("play step").press("Enter")
    expect(box.locator(".wd-player output")).to_have_text("latents, step 4", timeout=10_000)
    box.get_by_label("pause step").press("Enter")


def explored(page):
    box = page.locator(".wd-board")
    expect(box.locator(".wd-first", has_text="first divergence")).to_have_count(1)
    keep(page, box, "explorer")
    box.locator("[data-stage=rng_noise]").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(box.locator("h4")).to_contain_text("prompt encoding")
    expect(box.locator("details.wd-cause code")).to_have_text("encoder-mask-passed-or-not")
    box.locator("details.wd-cause summary").press("Enter")
    expect(box.locator("details.wd-cause dl")).to_be_hidden()
    box.get_by_label("probe").select_option("pooled_prompt_embeds")
    expect(box.locator(".wd-facts caption")).to_have_text("pooled_prompt_embeds")
    box.locator("[data-stage=model_forward]").click()
    box.get_by_label("probe").select_option("noise_pred_text")
    slider = box.get_by_label("step", exact=True)
    slider.focus()
    slider.press("End")
    expect(box.locator(".wd-facts caption")).to_have_text("noise_pred_text, step 11")
    box.locator(".wd-map").first.focus()
    page.keyboard.press("ArrowDown")
    expect(box.locator(".wd-reading")).to_contain_text("row 1, column 0")
    keep(page, box, "explorer_model")


def another_case(page):
    box = page.locator(".wd-board")
    box.get_by_label("case").select_option("broken")
    expect(box.locator(".wd-failed")).to_contain_text("nowhere", timeout=WAIT)
    expect(box.get_by_label("case")).to_have_value("flux_port")
    box.get_by_label("case").select_option("wan_shift")
    expect(box.locator(".wd-busy")).to_contain_text("wan_shift", timeout=WAIT)
    expect(box.locator(".wd-headline")).to_contain_text("shift-constant", timeout=WAIT)
    expect(box.locator(".wd-status")).to_have_text("wan_shift is diagnosed.")
    keep(page, box, "explorer_other_case")


def test_in_lab_practice_is_played_to_the_answer(page, lab):
    path = lab[1] / "notebooks" / "practice" / "find_the_bug.ipynb"
    notebook = nbformat.read(path, 4)
    notebook.cells[1].source = notebook.cells[1].source.replace("seed: int = -1", "seed: int = 0")
    nbformat.write(notebook, path)
    opened(page, lab, "practice/find_the_bug.ipynb")
    run_all(page)
    box = page.locator(".wd-practice")
    expect(box.locator(".wd-board .wd-blind").first).to_be_visible()
    assert box.locator(".wd-first", has_text="first").count() == 0 and box.locator("details.wd-cause").count() == 0
    keep(page, box, "practice_question")
    box.get_by_text("that is it").click()
    expect(box.locator(".wd-failed")).to_contain_text("Choose the place first")
    box.locator(".wd-stage", has_text="differs").first.click()
    assert box.get_by_label("place").input_value() == box.locator(".wd-stage[aria-pressed=true]").get_attribute("data-stage")
    box.get_by_text("hint:").click()
    expect(box.locator("caption", has_text="each stage adds")).to_be_visible()
    box.get_by_label("place").select_option("latent_handling")
    box.get_by_label("cause", exact=True).fill("patch-pack-order")
    expect(box.locator(".wd-means")).not_to_be_empty()
    box.get_by_text("that is it").click()
    expect(box.locator(".wd-answer")).to_contain_text("Planted:")
    expect(box.locator(".wd-answer h4")).to_have_text("Found: place and cause are right. 2 of 3 points.")  # the hint cost one
    expect(box.locator(".wd-headline").first).to_contain_text("2 of 3 points in 1 round")
    expect(box.locator(".wd-first", has_text="first divergence")).to_have_count(1)
    keep(page, box, "practice_answer")
    assert quiet(page) == []
