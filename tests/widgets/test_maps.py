"""Tensors become maps: packed latents where they lie, exact zeros by themselves, and never more bytes than allowed."""

import base64

import numpy as np
import pytest
import torch

from whydiff.measure.layouts import pack
from whydiff.widgets.maps import EXACT, Maps, coded, coded_difference, encoded, extreme, maps_of


def unpacked(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype=np.uint8)


def planes(values) -> Maps:
    return maps_of(torch.as_tensor(values), "latents")


@pytest.mark.parametrize(("shape", "probe", "count", "first", "axes"), [
    ((1, 4, 6, 8), "latents", 4, "channel 0", ("row", "column")),
    ((2, 4, 6, 8), "latents", 8, "item 0, channel 0", ("row", "column")),
    ((1, 4, 3, 6, 8), "latents", 12, "channel 0, frame 0", ("row", "column")),
    ((1, 6, 8, 3), "image", 3, "channel 0", ("row", "column")),
    ((1, 3, 6, 8, 3), "image", 9, "frame 0, channel 0", ("row", "column")),
    ((1, 16, 48), "prompt_embeds", 1, "all", ("token", "feature")),
    ((16, 3), "model_input/txt_ids", 1, "all", ("token", "feature")),
])  # fmt: skip
def test_each_kind_of_tensor_is_shown_by_its_axes(shape, probe, count, first, axes):
    maps = maps_of(torch.arange(float(np.prod(shape))).reshape(shape), probe)
    assert (len(maps.labels), maps.labels[0], maps.axes, len(maps.values)) == (count, first, axes, count)


@pytest.mark.parametrize("shape", [(), (5,), (1, 5), (1, 1, 1, 5)])
def test_a_list_of_numbers_is_no_map(shape):
    assert maps_of(torch.zeros(shape), "sigmas") is None


def test_packed_latents_are_shown_where_they_lie_in_the_picture():
    latents = torch.randn(1, 4, 6, 8)
    maps = maps_of(pack(latents), "latents", (6, 8))
    np.testing.assert_array_equal(maps.values, latents[0].double())


def test_an_exact_zero_has_a_code_that_no_difference_has():
    codes = coded_difference(np.array([0.0, 1e-30, -1e-30, 1.0, -1.0, np.nan]), 1.0)
    assert codes.tolist() == [EXACT, EXACT + 1, EXACT - 1, 255, 1, 0]


def test_what_is_not_finite_has_a_code_of_its_own():
    assert coded(np.array([0.0, 1.0, np.inf, -np.inf, np.nan]), 0.0, 1.0).tolist() == [1, 255, 0, 0, 0]
    shown = encoded(planes([[[[1.0, np.nan], [np.inf, 2.0]]]]), planes([[[[1.0, np.nan], [0.0, 4.0]]]]), 1000)
    assert (shown["low"], shown["high"], shown["limit"]) == (0.0, 4.0, 2.0)
    assert unpacked(shown["difference"]).tolist() == [EXACT, 0, 0, 255]


def test_equal_sides_are_sent_once():
    value = torch.randn(1, 4, 6, 8)
    shown = encoded(planes(value), planes(value.clone()), 10_000)
    assert shown["equal"] and shown["candidate"] is None and shown["difference"] is None


def test_of_what_is_too_large_the_largest_difference_survives():
    gap = torch.zeros(1, 64, 256, 256)
    gap[0, 63, 200, 100] = -3.0
    value = torch.randn(gap.shape)
    shown = encoded(planes(value), planes(value + gap), 30_000)
    size = len(shown["labels"]) * shown["rows"] * shown["columns"]
    assert all(len(unpacked(shown[role])) == size for role in ("reference", "candidate", "difference")) and 3 * size <= 30_000
    assert shown["labels"][0] == "channel 0" and shown["labels"][-1] == "channel 63" and shown["of"] == 64
    assert unpacked(shown["difference"]).min() == 1 and shown["limit"] == pytest.approx(3.0)


def test_a_square_is_seen_at_its_largest_with_its_sign():
    assert extreme(np.array([[[1.0, -5.0], [2.0, 0.0]]]), 2).tolist() == [[[-5.0]]]
