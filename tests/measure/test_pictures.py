"""Whatever a pipeline returns becomes one kind of picture, and pictures are compared as a viewer would."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from whydiff.errors import Trouble
from whydiff.measure.pictures import compare_pictures, flip, psnr, round_to_8_bit, ssim, to_image

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
PIL = Image.fromarray(PIXELS)
FLOAT = torch.tensor(PIXELS).permute(2, 0, 1)[None] / 255  # (1, 3, 16, 24)
EXPECTED = torch.tensor(PIXELS)[None] / 255


@pytest.mark.parametrize(("output", "bits"), [
    (SimpleNamespace(images=[PIL]), 8), ({"images": [PIL]}, 8), (([PIL],), 8), (PIL, 8), (PIXELS, 8),
    (PIXELS[None] / 255.0, None), (FLOAT, None), (FLOAT[0], None), (FLOAT * 2 - 1, None),
    (SimpleNamespace(images=FLOAT.permute(0, 2, 3, 1).numpy()), None), (SimpleNamespace(sample=FLOAT), None),
])
def test_every_form_of_one_picture_is_the_same_picture(output, bits):
    image, found = to_image(output)
    assert found == bits and image.dtype == torch.float32 and image.shape == (1, 16, 24, 3)
    assert torch.allclose(image, EXPECTED, atol=1e-6)


@pytest.mark.parametrize("frames", [
    [[PIL] * 5], [PIL] * 5, np.stack([PIXELS] * 5)[None], np.stack([PIXELS] * 5), FLOAT.repeat(5, 1, 1, 1)[None],
    FLOAT.repeat(5, 1, 1, 1)[None].transpose(1, 2),
])
def test_every_form_of_one_video_is_the_same_video(frames):
    video, _ = to_image(SimpleNamespace(frames=frames))
    assert video.shape == (1, 5, 16, 24, 3) and torch.allclose(video[:, 2], EXPECTED, atol=1e-6)


def test_what_is_no_picture_says_why():
    for bad in ({}, None, [], torch.rand(1, 5, 7, 9), [PIL, PIL.resize((8, 8))]):
        with pytest.raises(Trouble):
            to_image(bad)
        with pytest.raises(ValueError):
            to_image(bad)


def test_rounding_to_8_bit_keeps_what_is_8_bit():
    assert torch.equal(round_to_8_bit(EXPECTED), EXPECTED)
    assert torch.equal(round_to_8_bit(EXPECTED + 0.3 / 255), EXPECTED.clamp(0, 1))


def test_equal_pictures_have_perfect_figures():
    found = compare_pictures(EXPECTED, EXPECTED.clone())
    assert (found.ssim, found.flip, found.psnr) == (1.0, 0.0, math.inf) and found.to_dict()["psnr"] is None


def test_more_difference_is_worse_in_every_figure():
    noise = torch.rand(EXPECTED.shape, generator=torch.Generator().manual_seed(0)) - 0.5
    little, much = ((EXPECTED + s * noise).clamp(0, 1) for s in (0.05, 0.5))
    assert ssim(EXPECTED, little) > ssim(EXPECTED, much) and psnr(EXPECTED, little) > psnr(EXPECTED, much)
    assert flip(EXPECTED, little)[0] < flip(EXPECTED, much)[0] and flip(EXPECTED, much)[1].shape == (1, 16, 24)


def test_videos_are_compared_frame_by_frame():
    video = EXPECTED.repeat(5, 1, 1, 1)[None]
    other = video.clone()
    other[:, 3] = 1 - other[:, 3]
    assert compare_pictures(video, other).flip_map.flatten(1).sum(1).nonzero().flatten().tolist() == [3]
    with pytest.raises(Trouble, match="one shape"):
        ssim(video, EXPECTED)
