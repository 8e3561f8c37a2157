"""What audits hand to views beside their tables: padding of a prompt, pairs of draws, runs with causes undone."""

import numpy as np

from whydiff.audits import noise_equality, prompt_embedding_stats, root_cause
from whydiff.audits.prompt_embedding_stats import padding


def test_padding_is_what_fills_the_row_and_not_the_mark_that_ends_the_text():
    assert padding([5, 6, 1, 0, 0], pad=0, end=1) == [False, False, False, True, True]
    assert padding([3, 5, 9, 9, 9], pad=9, end=9) == [False, False, False, True, True]
    assert padding([5, 0, 6], pad=0) == [False] * 3 and padding([5, 6], pad=None) == [False] * 2


def test_tokens_come_with_their_padding(port):
    shown = prompt_embedding_stats.differences(port)["prompt_embeds"]
    marks = prompt_embedding_stats.marks(port)["input_ids_2"]["padding"]
    assert len(shown) == len(marks) == 16 and marks.count(True) == 10 and marks[-10:] == [True] * 10


def test_draws_come_with_their_correlation(port):
    pair = noise_equality.draws(port)
    assert pair["reference"].shape == pair["candidate"].shape == (768,)
    assert np.isclose(np.corrcoef(pair["reference"], pair["candidate"])[0, 1], pair["correlation"])


def test_all_causes_undone_come_last_and_leave_nothing(port):
    *alone, together = root_cause.repairs(port)
    assert [repair.undone for repair in alone] == [cause.id for cause in port.verdict.causes] and together.undone == "all 4 causes"
    assert together.equal and not any(repair.agrees for repair in alone)
    after = {probe: left for probe, _, left in together.changes}
    assert after["image"] == 0 and after["sigmas"] is None
    titles = [title for title, _, _ in root_cause.pictures(port)]
    assert titles[0].endswith("as it runs") and titles[-2:] == ["all 4 causes undone", "reference"] and len(titles) == 7
