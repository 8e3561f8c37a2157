"""Names and texts out of a trace are words wherever they are shown: no tag, script, link or formula comes to life in them."""

from html.parser import HTMLParser

import matplotlib
import matplotlib.pyplot as plt
import pytest
from nbconvert.filters import markdown2html

from whydiff.audits.result import AuditResult, Lines, Table
from whydiff.report.views.colours import plain
from whydiff.verdict import Cause, Verdict, literal

EVIL = "a<script>alert(1)</script>\n<img src=x onerror=alert(1)>[x](javascript:alert(1)) ![x](http://evil/x.png) `|` <a href='javascript:1'>"


def shown() -> list[str]:
    cause = Cause("seed", "rng_noise", EVIL, EVIL, {}, 1.0, EVIL, module=EVIL)
    verdict = Verdict("different", EVIL, EVIL, EVIL, None, [cause], unexplained=[{"stage": "vae", "probe": EVIL, "module": EVIL}], notes=[EVIL])
    audit = AuditResult("a", EVIL, "different", (EVIL, EVIL), (EVIL,), ((EVIL,), (EVIL,)))
    return [x._repr_markdown_() for x in (verdict, audit, Table((EVIL,), ((EVIL,),)), Lines((EVIL,)))]


@pytest.mark.parametrize("number", range(4))
def test_markdown_of_a_result_has_no_tag_link_or_picture_of_a_trace(number):
    page = markdown2html(shown()[number])
    assert "alert(1)" in page  # it is shown, as words
    found = Tags()
    found.feed(page)
    assert not {"script", "img", "iframe"} & {tag for tag, _ in found.tags}
    for _, attributes in found.tags:
        for name, value in attributes:
            assert name in ("align", "style") or (name == "href" and value.startswith("http://")), (name, value)  # bare addresses become links


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, attrs))


def test_honest_words_stay_as_they_are():
    for words in ("[1, 4, 8] float32: x < 3 and y > 4, `a.b`", "transformer/blocks.0 (step 3)", "cosine 0.5 & more"):
        assert literal(words).replace("\\", "") == words


def test_a_dollar_in_a_name_is_no_formula(tmp_path):
    matplotlib.use("agg")
    figure, ax = plt.subplots()
    ax.set_title(plain("blocks.$\\frac{0$.norm"))
    figure.savefig(tmp_path / "x.png")
    plt.close(figure)
