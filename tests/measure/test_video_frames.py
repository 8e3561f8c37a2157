"""Video measured frame by frame."""

import pytest
import torch

from whydiff.measure.frames import contrast, equal_pairs, fine_detail, first_beyond, frame_differences


def video(*frames):
    return torch.stack(frames)[None]


def test_a_difference_is_in_its_frame_alone():
    one = torch.rand(1, 4, 6, 6, 3)
    other = one.clone()
    other[:, 2] *= 1.5
    assert frame_differences(one, other) == pytest.approx([0, 0, 0.5, 0])


def test_videos_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        frame_differences(torch.rand(1, 4, 6, 6, 3), torch.rand(1, 5, 6, 6, 3))


def test_the_first_frame_beyond_its_limit_is_told_and_never_is_none():
    assert first_beyond([0.0, 0.1, 0.3], [0.2, 0.2, 0.2]) == 2
    assert first_beyond([0.0, 0.1], [0.2, 0.2]) is None
    assert first_beyond([float("nan")], [0.2]) == 0  # what is not finite stands out
    assert first_beyond([None], [0.2]) == 0


def test_a_checkerboard_is_fine_detail_and_a_slope_is_not():
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    board, wave = (rows + columns) % 2, torch.sin(2 * torch.pi * rows / 16)
    fine = fine_detail(video(board[..., None], wave[..., None]))
    assert fine == pytest.approx([1, 0], abs=1e-9)


def test_contrast_is_that_of_each_frame():
    assert contrast(video(torch.zeros(4, 4, 3), torch.tensor([0.0, 1.0]).repeat(24).reshape(4, 4, 3))) == pytest.approx([0, 0.505], abs=1e-3)


def test_shared_draws_are_paired():
    draws = [torch.full((2,), float(k)) for k in range(3)]
    assert equal_pairs(draws[:2], draws[1:]) == [(1, 0)]
