"""Figures inside the page: they follow its colours, share no names and hold no markup of a user."""

import re

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from whydiff.report.svg import inline

EVIL = "<script>alert(1)</script>\"' & 漢"


def drawn(name: str, title: str = "a title"):
    figure, ax = plt.subplots(layout="constrained")
    ax.plot([0, 1], [0, 1], color="black", marker="o")
    ax.fill_between([0, 1], [0, 1], color="white", hatch="//")
    ax.set_title(title)
    return inline(figure, title, name)


def test_black_and_white_are_the_page_s_own():
    text = drawn("one")
    assert "#000000" not in text and "#ffffff" not in text and "currentColor" in text and "var(--paper" in text


def test_figures_of_one_page_share_no_names():
    names = [re.findall(r' id="([^"]+)"', drawn(name)) for name in ("one", "two")]
    assert names[0] and not set(names[0]) & set(names[1])


def test_text_of_a_user_stays_text_and_needs_no_font_here():
    text = drawn("one", EVIL)
    assert "<script" not in text and "&lt;script&gt;" in text and "漢" in text


def test_nothing_in_it_asks_the_network_and_the_figure_is_closed():
    text = drawn("one")
    assert "http" not in text and text.startswith("<svg") and 'role="img"' in text and not plt.get_fignums()
