"""The condition frame encoded alone, and with the frames behind it."""

from types import SimpleNamespace

import pytest
import torch
from recorded_lab import lab_of, normal, trace

from whydiff.causes.finding import Finding
from whydiff.causes.image import given
from whydiff.causes.latents import clip
from whydiff.causes.leaks import kept
from whydiff.causes.leaks.leak import Leak
from whydiff.places import Place

FRAME = normal(1, 3, 1, 8, 8)
CLIP = torch.cat([FRAME, torch.zeros(1, 3, 4, 8, 8)], 2)
LATENTS = normal(1, 4, 2, 4, 4, seed=1)
NOISE = normal(1, 4, 2, 4, 4, seed=2)


def of(frames, latents, noise=NOISE):
    return trace({"init_image": frames, "image_latents": latents, "initial_noise": noise})


def explained(one, other):
    lab, place = lab_of(one, other), Place("init_image")
    return clip.explain(Finding("init_image", [place], {}, {}, None, 0.0), lab)


def test_frame_encoded_alone_is_named_on_either_side():
    alone, whole = of(FRAME, LATENTS[:, :, :1] + 0.01), of(CLIP, LATENTS)
    for one, other in ((alone, whole), (whole, alone)):
        (found,) = explained(one, other)
        assert found.id == "first-frame-encoding-context"
        assert {found.relation["reference"], found.relation["candidate"]} == {1, 5}


@pytest.mark.parametrize("alone, whole", [
    (of(FRAME, LATENTS[:, :, :1]), of(CLIP, LATENTS)),  # the frame's latents do not depend on what is behind it
    (of(FRAME + 0.1, LATENTS[:, :, :1] + 0.01), of(CLIP, LATENTS)),  # another picture
    (of(FRAME, LATENTS[:, :, :1] + 0.01, NOISE[:, :, :1]), of(CLIP, LATENTS)),  # another number of frames asked for
])  # fmt: skip
def test_what_is_no_matter_of_context_is_not_named(alone, whole):
    assert explained(alone, whole) == []


def test_range_of_a_clip_is_told_from_the_frames_that_are_given():
    whole = trace({"init_image": CLIP})
    half = trace({"init_image": torch.where(CLIP != 0, CLIP * 0.5 + 0.5, 0.0)})
    lab, place = lab_of(whole, half), Place("init_image")
    (found,) = given.explain_range(Finding("init_image", [place], {place: CLIP}, {place: half[place]}, 1.0, 1e-7), lab)
    assert found.id == "vae-input-range" and found.departs == "candidate" and found.explained > 0.999


def test_encoder_that_makes_something_else_of_the_same_pixels_keeps_something():
    first, again = of(CLIP, LATENTS), of(CLIP, LATENTS + 0.01)
    leak = Leak("candidate", Place("image_latents"), first, first, again, again, [], (4, 4))
    found = kept._encoder(leak, None)
    assert found.id == "vae-cache-wrong-size" and found.stage == "vae" and found.equivalent == ["conv-cache-leak"]
    moved = of(CLIP + 0.1, LATENTS + 0.01)
    assert kept._encoder(Leak("candidate", Place("image_latents"), first, first, moved, moved, [], (4, 4)), None) is None


class Context(torch.nn.Module):
    """An encoder whose latent frames see the mean of the clip: their neighbours matter."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.5))

    def encode(self, x):
        frames = x + self.weight * x.mean(2, keepdim=True)
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=frames))


def test_first_latent_frame_is_told_by_encoding_it_both_ways():
    vae, place = Context(), Place("image_latents")
    whole = vae.encode(CLIP).latent_dist.mean.detach()
    alone = torch.cat([vae.encode(FRAME).latent_dist.mean.detach(), whole[:, :, 1:]], 2)
    for one, other, side in ((whole, alone, "candidate"), (alone, whole, "reference")):
        lab = lab_of(of(CLIP, one), of(CLIP, other))
        lab.sides["candidate"] = SimpleNamespace(components={"vae": vae})
        (found,) = clip.explain_latents(Finding("image_latents", [place], {place: one}, {place: other}, 1.0, 1e-7), lab)
        assert found.id == "first-frame-encoding-context" and found.relation[side] == 1
        moved = other.clone()
        moved[:, :, :1] += 0.1  # another first frame, for another reason
        assert not clip.explain_latents(Finding("image_latents", [place], {place: one}, {place: moved}, 1.0, 1e-7), lab)
