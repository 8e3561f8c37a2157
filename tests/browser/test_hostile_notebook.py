"""A notebook whose words came out of a trace, as a page in a real browser: nothing of them runs, and nothing is fetched."""

import nbformat
from nbconvert import HTMLExporter

from whydiff.audits.result import AuditResult
from whydiff.verdict import Cause, Verdict

EVIL = ("a<script>window.ran=1</script>\n<img src=x onerror='window.ran=1'>[x](javascript:window.ran=1) ![x](http://evil.invalid/x.png) "
        "<svg/onload=window.ran=1>")  # fmt: skip


def test_nothing_of_a_traces_words_runs_in_a_notebook(page, tmp_path):
    cause = Cause("seed", "rng_noise", EVIL, EVIL, {}, 1.0, EVIL, module=EVIL)
    verdict = Verdict("different", EVIL, EVIL, EVIL, None, [cause], unexplained=[{"stage": "vae", "probe": EVIL}], notes=[EVIL])
    audit = AuditResult("a", EVIL, "different", (EVIL,), (EVIL,), ((EVIL,),))
    cells = [nbformat.v4.new_code_cell("x", outputs=[nbformat.v4.new_output("display_data", {"text/markdown": shown._repr_markdown_()})])
             for shown in (verdict, audit)]  # fmt: skip
    html, _ = HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=cells))
    (tmp_path / "x.html").write_text(html, encoding="utf-8")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "x.html").as_uri())
    assert page.evaluate("window.ran") is None
    assert not [url for url in asked if "evil.invalid" in url]
    assert page.locator("a[href^='javascript']").count() == 0
    assert page.locator("text=window.ran").count() > 0  # it is shown, as words
