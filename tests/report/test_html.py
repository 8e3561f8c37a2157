"""The report: one file without a network, with everything from users escaped."""

import html.parser
import re
import types

import pytest
import torch

from whydiff.audits import root_cause
from whydiff.causes.finding import Explanation, Finding
from whydiff.engine.lab import Lab
from whydiff.engine.repaired import Repaired
from whydiff.engine.rows import Row
from whydiff.engine.walk import Named
from whydiff.evidence.case import make_case
from whydiff.evidence.floor import Floor
from whydiff.evidence.traces.trace import Event, Trace
from whydiff.places import Place
from whydiff.report.headline import headline
from whydiff.report.html import HERE, digest, figure, render, write_report
from whydiff.verdict import Cause, Verdict, share

EVIL = "<script>alert('x')</script>\"'&"


class Page(html.parser.HTMLParser):
    """Tags with their attributes, and all text outside style."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def trace(scale=1.0, size=(8, 12), settings=None):
    found = Trace(producer={"name": EVIL, "package": "p", "version": "1"}, settings=settings or {"height": size[0], "seed": 0},
                  environment={"versions": {"torch": "2"}, "devices": [EVIL]})  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    found.add(Event(Place("initial_noise"), torch.randn(1, 4, 6, generator=generator)))
    found.add(Event(Place("sigmas"), torch.linspace(1, 0.1, 5) ** scale))
    found.add(Event(Place("image"), torch.rand(1, *size, 3, generator=generator) * scale))
    return found


def make_study(word="different", text="plain", candidate=None, **verdict):
    case = make_case({"title": text, "question": text, "reference": {"name": text, "trace": "a"},
                      "candidate": {"name": text, "trace": "b", "settings": {"width": text}}})  # fmt: skip
    found = Verdict(word, text, question=text, evidence={"reference": "trace", "candidate": "trace"}, **verdict)
    lab = Lab(case)
    lab.traces = traces = {"reference": trace(), "candidate": candidate or trace(0.5)}
    lab.floor = Floor({}, {}, "measured")
    rows = [Row(Place("sigmas"), 0.3, 1e-7), Row(Place("initial_noise"), 0.0, 1e-7, equal=True), Row(Place("image"), 0.5, 1e-7)]
    return types.SimpleNamespace(case=case, verdict=found, lab=lab, rows=rows, added=rows[:1], environment={}, named=[],
                                 reference=traces["reference"], candidate=traces["candidate"])  # fmt: skip


def repaired(study, *ids, left=0.0):
    """The study with a run for each cause named, and one with all of them undone in which `left` of the picture's difference stays."""
    picture = study.reference.get("image")
    for id_ in ids:
        finding = Finding("sigmas", [Place("sigmas")], {}, {}, 0.3, 1e-7)
        run = Repaired([Row(Place("image"), 0.2, 1e-7)], ["sigmas"], picture * 0.9)
        study.named.append(Named(finding, [Explanation(id_, "", {}, 1.0, "", "")], {}, repaired=run))
    study.lab.repaired_all = Repaired([Row(Place("image"), left, 1e-7, equal=not left)], ["sigmas"], picture)
    study.named[0].repaired = study.lab.repaired_all if len(ids) == 1 else study.named[0].repaired
    return study


@pytest.fixture
def undrawn(monkeypatch):
    """Pages without their charts, which take most of the time."""
    monkeypatch.setattr("whydiff.report.contents.exhibits", lambda study: [])
    monkeypatch.setattr("whydiff.report.contents.before_after", lambda *given: {"svg": ""})


def said(study):
    return headline(study, list(root_cause.repairs(study)))


def a_cause(text="plain", **changes):
    given = {"id": "shift-constant", "stage": "schedule", "probe": "sigmas", "statement": text, "relation": {}, "explained": 1.0,
             "experiment": text, "departs": "candidate", "fix": text, "image_effect": 0.31, "equivalent": [text]}  # fmt: skip
    return Cause(**(given | changes))


@pytest.fixture(scope="module")
def evil_page():
    unexplained = [{"stage": "model_forward", "probe": EVIL, "module": EVIL, "difference": 0.2, "noise_floor": 1e-6, "why": EVIL}]
    study = make_study(text=EVIL, causes=[a_cause(EVIL)], unexplained=unexplained, notes=[EVIL],
                       declared=[{"stage": "vae", "probe": "decoded", "what": EVIL, "difference": 0.1}],
                       audits=[{"name": EVIL, "verdict": "same", "findings": [EVIL]}],
                       compared={"tensors": 3, "unpaired_candidate": [EVIL], "layouts": [EVIL]})  # fmt: skip
    return render(study, notebooks=["notebooks/01_x.ipynb"], command=EVIL)


def test_nothing_from_a_user_becomes_markup(evil_page):
    page = Page(evil_page)
    assert [attrs for tag, attrs in page.tags if tag == "script"] == [{}] and evil_page.count("<script") == 1  # the page's own
    assert page.text.count(EVIL) > 10
    assert not [a for _, attrs in page.tags for a in attrs if a.startswith("on")]


def test_the_page_asks_the_network_for_nothing(evil_page):
    page = Page(evil_page)
    assert "http://" not in evil_page and "https://" not in evil_page
    assert "@import" not in evil_page and not re.search(r"url\((?!#)", evil_page)
    assert not [tag for tag, _ in page.tags if tag in ("link", "iframe", "object", "embed", "form")]
    assert all(attrs["src"].startswith("data:image/png;base64,") for tag, attrs in page.tags if tag == "img")
    assert all(attrs["href"].startswith(("data:image/png;base64,", "#", "notebooks/")) for _, attrs in page.tags if "href" in attrs)
    assert len(evil_page) < 5_000_000


def test_every_picture_says_what_it_shows(evil_page):
    page = Page(evil_page)
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) == 4  # two images, their difference, what is seen of it
    assert all(attrs["alt"] for attrs in pictures)
    drawn = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert drawn and all(attrs["role"] == "img" and attrs["aria-label"] for attrs in drawn)


def test_two_pictures_of_a_page_share_no_name(evil_page):
    names = [attrs["id"] for _, attrs in Page(evil_page).tags if "id" in attrs]
    assert len(names) == len(set(names))


def test_headings_follow_one_another(evil_page):
    levels = [int(tag[1]) for tag, _ in Page(evil_page).tags if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1 and levels.count(1) == 1 and all(b - a <= 1 for a, b in zip(levels, levels[1:]))


def test_only_the_page_s_own_script_may_run(evil_page):
    policy = next(attrs["content"] for tag, attrs in Page(evil_page).tags if attrs.get("http-equiv") == "Content-Security-Policy")
    script = evil_page.partition("<script>")[2].partition("</script>")[0]
    assert f"script-src '{digest(script)}'" in policy and "default-src 'none'" in policy and script == (HERE / "report.js").read_text()


def test_the_cause_with_the_largest_share_of_the_image_comes_first(undrawn):
    study = make_study(causes=[a_cause("small one", image_effect=0.1), a_cause("large one", id="seed", image_effect=0.8)])
    text = render(study)
    assert text.index("large one") < text.index("small one")


def test_the_headline_says_what_is_wrong_and_how_one_knows():
    study = repaired(make_study(causes=[a_cause("its sigmas are shifted")], text="port"), "shift-constant")
    study.case.reference.name = "diffusers"
    assert said(study) == ("Port makes another picture than diffusers because its sigmas are shifted; with it undone, the pictures are "
                           "equal bit for bit.")


def test_two_causes_are_counted_and_what_they_leave_is_said():
    causes = [a_cause("one"), a_cause("two", id="seed")]
    ids = [cause.id for cause in causes]
    assert said(repaired(make_study(causes=causes), *ids, left=0.3)).endswith("for 2 reasons; with both undone, a difference is left.")
    assert said(repaired(make_study(causes=causes), *ids, left=1e-7)).endswith("with both undone, the pictures agree to within noise.")


def test_nothing_is_claimed_of_repairs_that_were_not_run():
    assert "undone" not in said(make_study(causes=[a_cause()]))


def test_the_pictures_lead_from_the_candidate_s_over_each_repair_to_the_reference_s(undrawn):
    text = render(repaired(make_study(causes=[a_cause(), a_cause(id="seed")]), "shift-constant", "seed"))
    story = text[text.index('class="story"') :].partition("</div>")[0]
    shown = [attrs["alt"] for tag, attrs in Page(story).tags if tag == "img"]
    assert shown == [f"Picture: {words}" for words in ("plain, as it runs", "shift-constant undone", "seed undone", "all 2 causes undone", "plain")]


def test_modules_fold_and_the_one_that_departs_is_in_sight(undrawn):
    pairs = [{"reference": "t/in", "candidate": "t/in", "difference": 0.0, "floor": 1e-7, "first": False},
             {"reference": "t/x.1", "candidate": "t/blocks.0.attn", "difference": 0.1, "floor": 1e-7, "first": True},
             {"reference": "t/x", "candidate": "t/blocks.1", "difference": 0.1, "floor": 1e-7, "first": False}]  # fmt: skip
    text = render(make_study(), kept={"first_divergence": {"modules": pairs, "step": 0}})
    tree = text[text.index('id="modules"') :]
    assert tree.count("<details open>") == 3 and "first to depart</span>" in tree and "t/x.1" in tree


def test_an_unexplained_place_needs_no_more_than_a_stage_and_a_probe(undrawn):
    assert "state_leakage / image" in render(make_study(unexplained=[{"stage": "state_leakage", "probe": "image"}]))


def test_pictures_of_two_sizes_are_shown_without_a_difference(undrawn):
    text = render(make_study(candidate=trace(size=(12, 8))))
    assert "different sizes" in text and "12 × 8 pixels" in text and "8 × 12 pixels" in text


@pytest.mark.parametrize("word", ["same", "within_noise", "precision", "incomparable", "vacuous"])
def test_every_verdict_has_a_page(word, undrawn):
    assert f'class="verdict {word}"' in render(make_study(word))


def test_a_side_without_a_trace_has_a_page(undrawn):
    study = make_study("incomparable")
    study.candidate = study.lab.traces["candidate"] = None
    study.rows = study.added = []
    assert "Only one side has a picture" in render(study)


def test_a_video_is_shown_as_a_row_of_frames(undrawn):
    video = trace()
    video.events[Place("image")].tensor = torch.rand(1, 9, 8, 12, 3)
    study = make_study(candidate=video)
    assert "9 frames" in render(study)


def test_the_file_is_written_whole(tmp_path, undrawn):
    path = write_report(make_study(), tmp_path / "new" / "report.html")
    assert path.read_text(encoding="utf-8").endswith("</html>\n") or path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_numbers_for_readers():
    assert [figure(v) for v in (None, 0, 0.0, 0.22345, 1e-7)] == ["–", "0", "0", "0.223", "1e-07"]
    assert [share(v) for v in (None, 1.0, 0.31, -0.04, 0.9991, 0.999999, -0.001)] == [
        "not measured", "100 %", "31 %", "-4 %", "99.91 %", "> 99.99 %", "less than 1 %"]  # fmt: skip
