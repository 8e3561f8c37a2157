"""Where in its tensor a difference sits, with the tokens' grid, the prompt's padding and an attention's heads."""

import torch
from recorded_lab import finding, lab_of, normal, trace

from whydiff.causes.concentration import concentration


def sits(mine, theirs, probe="latents", **others):
    lab = lab_of(trace({probe: mine} | others), trace({probe: theirs} | others))
    return concentration(finding(lab, probe), lab.traces["reference"])


def test_packed_tokens_are_rows_and_columns_of_the_picture():
    x = normal(1, 24, 8)  # 4 rows of 6
    y = x.clone()
    y[:, 18:] += 1
    profile, words = sits(x, y, image=torch.zeros(1, 32, 48, 3))
    assert words == "100 % of the squared error in the last row"
    assert [entry["axis"] for entry in profile] == ["row", "column", "channel"]
    assert profile[0]["shares"][-1] == 1.0 and profile[0]["size"] == 4


def test_padding_is_called_what_it_is():
    x = normal(1, 12, 8)
    y = x.clone()
    y[:, 3:] += 1
    mask = torch.tensor([[1, 1, 1] + [0] * 9])
    assert sits(x, y, "prompt_embeds", attention_mask=mask)[1] == "100 % of the squared error in the padding tokens"


def test_shapes_that_differ_have_no_profile():
    assert sits(normal(1, 12, 8), normal(1, 10, 8), "prompt_embeds") == ([], "")
