"""The report: one file without a network, with everything from users escaped."""

import dataclasses
import html.parser
import types

import pytest
import torch

from whydiff.engine.rows import Row
from whydiff.evidence.case import make_case
from whydiff.evidence.traces.trace import Event, Trace
from whydiff.places import Place
from whydiff.report.html import figure, render, write_report
from whydiff.verdict import Cause, Verdict, share

EVIL = "<script>alert('x')</script>\"'&"


@dataclasses.dataclass
class Lab:
    sides: dict
    traces: dict
    floor: object


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
    traces = {"reference": trace(), "candidate": candidate or trace(0.5)}
    rows = [Row(Place("sigmas"), 0.3, 1e-7), Row(Place("initial_noise"), 0.0, 1e-7, equal=True), Row(Place("image"), 0.5, 1e-7)]
    lab = Lab({}, traces, types.SimpleNamespace(source="measured"))
    return types.SimpleNamespace(case=case, verdict=found, lab=lab, rows=rows, added=rows[:1], environment={},
                                 reference=traces["reference"], candidate=traces["candidate"])  # fmt: skip


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
    assert "<script" not in evil_page
    page = Page(evil_page)
    assert not [tag for tag, _ in page.tags if tag == "script"]
    assert page.text.count(EVIL) > 10
    assert not [a for _, attrs in page.tags for a in attrs if a.startswith("on")]


def test_the_page_asks_the_network_for_nothing(evil_page):
    page = Page(evil_page)
    assert "http://" not in evil_page and "https://" not in evil_page
    assert "@import" not in evil_page and "url(" not in evil_page
    assert not [tag for tag, _ in page.tags if tag in ("link", "iframe", "object", "script")]
    assert all(attrs["src"].startswith("data:image/png;base64,") for tag, attrs in page.tags if tag == "img")
    assert len(evil_page) < 5_000_000


def test_every_picture_says_what_it_shows(evil_page):
    page = Page(evil_page)
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) == 5  # two images, their difference, two noises
    assert all(attrs["alt"] for attrs in pictures)


def test_the_cause_with_the_largest_share_of_the_image_comes_first():
    study = make_study(causes=[a_cause("small one", image_effect=0.1), a_cause("large one", id="seed", image_effect=0.8)])
    text = render(study)
    assert text.index("large one") < text.index("small one")


def test_an_unexplained_place_needs_no_more_than_a_stage_and_a_probe():
    assert "state_leakage / image" in render(make_study(unexplained=[{"stage": "state_leakage", "probe": "image"}]))


def test_pictures_of_two_sizes_are_shown_without_a_difference():
    text = render(make_study(candidate=trace(size=(12, 8))))
    assert "different sizes" in text and "12 × 8 pixels" in text and "8 × 12 pixels" in text


@pytest.mark.parametrize("word", ["same", "within_noise", "precision", "incomparable", "vacuous"])
def test_every_verdict_has_a_page(word):
    assert f'class="verdict {word}"' in render(make_study(word))


def test_a_side_without_a_trace_has_a_page():
    study = make_study("incomparable")
    study.candidate = study.lab.traces["candidate"] = None
    study.rows = study.added = []
    assert "Only one side has a picture" in render(study)


def test_a_video_is_shown_as_a_row_of_frames():
    video = trace()
    video.events[Place("image")].tensor = torch.rand(1, 9, 8, 12, 3)
    study = make_study(candidate=video)
    assert "9 frames" in render(study)


def test_the_file_is_written_whole(tmp_path):
    path = write_report(make_study(), tmp_path / "new" / "report.html")
    assert path.read_text(encoding="utf-8").endswith("</html>\n") or path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_numbers_for_readers():
    assert [figure(v) for v in (None, 0, 0.0, 0.22345, 1e-7)] == ["–", "0", "0", "0.223", "1e-07"]
    assert [share(v) for v in (None, 1.0, 0.31, -0.04, 0.9991, 0.999999, -0.001)] == [
        "not measured", "100 %", "31 %", "-4 %", "99.91 %", "> 99.99 %", "less than 1 %"]  # fmt: skip
