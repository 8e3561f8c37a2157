"""What becomes of latents on their way into the loop, into the network and into the decoder."""

import pytest
import torch
from recorded_lab import finding, lab_of, normal, trace

from whydiff.causes.image import given
from whydiff.causes.latents import condition, decode, moved, start
from whydiff.measure.layouts import pack
from whydiff.places import Place

LATENTS = normal(1, 4, 8, 8, seed=3)
LAST = Place("latents", 5)


def vae(**config):
    return {"components": {"vae": {"class": "AutoencoderKL", "config": config}}}


def decoding(mine, theirs, latents=LATENTS, **config):
    lab = lab_of(*(trace({LAST: latents, "vae_latents": t}, producer=vae(**config)) for t in (mine, theirs)))
    return decode.explain(finding(lab, "vae_latents"), lab)


@pytest.mark.parametrize("swap", [False, True])
def test_scaling_is_read_from_the_last_latents_on_either_side(swap):
    right, wrong = LATENTS / 0.18215, LATENTS / 0.13025
    pair = (wrong, right) if swap else (right, wrong)
    (cause,) = decoding(*pair, scaling_factor=0.18215)
    assert (cause.id, cause.departs) == ("vae-scaling-factor", "reference" if swap else "candidate")
    assert cause.relation["reference" if swap else "candidate"] == pytest.approx(0.13025)


def test_scaling_and_shift_are_two_causes_and_packed_latents_are_unpacked():
    found = decoding(LATENTS / 0.3611 + 0.1159, LATENTS, pack(LATENTS), scaling_factor=0.3611, shift_factor=0.1159)
    assert [cause.id for cause in found] == ["vae-scaling-factor", "vae-shift-missing"]
    assert found[0].equivalent == ["vae-scaling-missing"]


def test_mean_and_deviation_of_channels():
    std, mean = torch.tensor([1.5, 2.0, 0.7, 1.1]), torch.tensor([0.1, -0.4, 0.2, 0.9])
    right = LATENTS * std[:, None, None] + mean[:, None, None]
    (cause,) = decoding(right, LATENTS, latents_mean=mean.tolist(), latents_std=std.tolist())
    assert (cause.id, cause.departs) == ("latent-mean-std-missing", "candidate")


def test_latents_of_another_picture_have_no_name():
    assert decoding(LATENTS / 0.2, normal(1, 4, 8, 8, seed=8)) == []


def test_noise_mixed_in_before_decoding():
    noise = normal(1, 4, 8, 8, seed=9)
    mine = trace({"vae_latents": LATENTS})
    theirs = trace({"vae_latents": 0.975 * LATENTS + 0.025 * noise, Place("initial_noise", occurrence=1): noise})
    lab = lab_of(mine, theirs)
    (cause,) = decode.explain_noise(finding(lab, "vae_latents"), lab)
    assert cause.id == "vae-decode-noise"
    assert cause.relation["share"] == pytest.approx(0.025, rel=1e-3)


def rearranged(mine, theirs, probe="initial_latents"):
    lab = lab_of(trace({probe: mine}), trace({probe: theirs}))
    return [cause.id for cause in moved.explain(finding(lab, probe), lab)]


def test_rearrangements_are_told_apart():
    tokens = normal(1, 24, 16, seed=1)
    repacked = tokens.reshape(1, 24, 4, 2, 2).permute(0, 1, 3, 4, 2).reshape(tokens.shape)
    assert rearranged(LATENTS, LATENTS.transpose(2, 3)) == ["latent-transposed"]
    assert rearranged(LATENTS, LATENTS.roll(1, 1)) == ["latent-channel-order"]
    assert rearranged(tokens, repacked) == ["patch-pack-order"]
    assert rearranged(tokens, tokens.reshape(1, 4, 6, 16).transpose(1, 2).reshape(tokens.shape)) == ["latent-transposed"]
    inner = LATENTS.reshape(1, 4, 4, 2, 4, 2).transpose(3, 5).reshape(LATENTS.shape)
    assert rearranged(LATENTS, inner) == ["patch-pack-order"]
    assert rearranged(LATENTS, normal(1, 4, 8, 8, seed=77)) == []
    assert rearranged(LATENTS, LATENTS.flip(2)) == []


def test_initial_latents_without_the_starting_sigma():
    sigmas = torch.tensor([14.6146, 5.0, 1.0, 0.0])
    noise = normal(1, 4, 8, 8)
    for mine, theirs, departs in ((noise * 14.6146, noise, "candidate"), (noise, noise * 14.6146, "reference")):
        lab = lab_of(trace({"initial_latents": mine, "sigmas": sigmas}), trace({"initial_latents": theirs, "sigmas": sigmas}))
        (cause,) = start.explain_start(finding(lab, "initial_latents"), lab)
        assert (cause.id, cause.departs) == ("init-noise-sigma-missing", departs)


def network_inputs(make):
    places = {i: Place("latent_model_input", i, "cond") for i in range(3)}
    return {p: make(i, LATENTS) for i, p in places.items()}


def test_input_not_scaled_by_sigma():
    sigmas = torch.tensor([14.6, 5.0, 1.0, 0.0])
    right = network_inputs(lambda i, x: x / (sigmas[i] ** 2 + 1).sqrt())
    plain = network_inputs(lambda i, x: x)
    other = network_inputs(lambda i, x: x / (sigmas[i] + 1))
    for mine, theirs, expected in ((right, plain, ["candidate"]), (plain, right, ["reference"]), (right, other, [])):
        lab = lab_of(trace({"sigmas": sigmas} | mine), trace(theirs))
        assert [c.departs for c in start.explain_model_input(finding(lab, "latent_model_input"), lab)] == expected


def conditioned(theirs, **config):
    place, own = Place("latent_model_input", 0), {"initial_latents": LATENTS}
    mask, picture = (normal(1, 2, 8, 8, seed=20) > 0).float(), normal(1, 4, 8, 8, seed=21)
    tensors = [own | {place: torch.cat([LATENTS, *parts], 1)} for parts in ((mask, picture), theirs(mask, picture))]
    lab = lab_of(*(trace(t, producer=vae(**config)) for t in tensors))
    return [c.id for c in condition.explain(finding(lab, "latent_model_input"), lab)]


def test_condition_channels():
    assert conditioned(lambda mask, picture: (picture, mask)) == ["condition-mask-layout"]
    assert conditioned(lambda mask, picture: (mask, picture * 0.18215), scaling_factor=0.18215) == ["condition-latent-scaled-twice"]
    assert conditioned(lambda mask, picture: (mask, normal(1, 4, 8, 8, seed=22))) == []


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("mask_first", [False, True])
def test_condition_latents_standardised_by_the_channels_of_the_vae_another_number_of_times(swap, mask_first):
    mean, std = torch.tensor([0.3, -1.2, 0.5, 0.0]), torch.tensor([1.5, 2.5, 0.8, 1.9])
    config, column = {"latents_mean": mean.tolist(), "latents_std": std.tolist()}, (slice(None), None, None)
    ways = [lambda x: x / std[column], lambda x: (x - mean[column]) / std[column], lambda x: x * std[column] ** 2]
    unlike = [lambda x: x / std.flip(0)[column], lambda x: x.flip(1) / std[column]]
    for way, expected in [*((w, ["condition-latent-scaled-twice"]) for w in ways), *((w, []) for w in unlike)]:
        mask, picture = (normal(1, 2, 8, 8, seed=20) > 0).float(), normal(1, 4, 8, 8, seed=21)
        sides = [torch.cat([LATENTS, *((mask, p) if mask_first else (p, mask))], 1) for p in (picture, way(picture))]
        later = [torch.cat([normal(1, 4, 8, 8, seed=30 + i), t[:, 4:]], 1) for i, t in enumerate(sides)]  # both went their way
        steps = [{Place("latent_model_input", step): t for step, t in enumerate(pair)} for pair in zip(sides, later)]
        lab = lab_of(*(trace({"initial_latents": LATENTS} | t, producer=vae(**config)) for t in (reversed(steps) if swap else steps)))
        assert [c.id for c in condition.explain(finding(lab, "latent_model_input"), lab)] == expected


def pictures(mine, theirs, explain=given.explain, probe="init_image"):
    lab = lab_of(trace({probe: mine}), trace({probe: theirs}))
    return [c.id for c in explain(finding(lab, probe), lab)]


def test_range_and_mask():
    picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert pictures(picture, picture / 2 + 0.5) == ["vae-input-range"]
    mask = (picture[:, :1] > 0).float()
    assert pictures(mask, 1 - mask, given.explain_mask, "mask") == ["mask-inverted"]
    assert pictures(mask, mask.roll(1, -1), given.explain_mask, "mask") == []


def test_a_crop_against_a_stretch():
    y, x = torch.meshgrid(torch.linspace(0, 6, 48), torch.linspace(0, 9, 96), indexing="ij")
    photograph = torch.stack([0.5 + 0.4 * torch.sin(x + y), 0.5 + 0.4 * torch.cos(2 * x - y), 0.5 + 0.3 * torch.sin(y)])[None]
    ways = given.ways_to_size(photograph, (32, 32))
    assert pictures(ways["stretched"] * 2 - 1, ways["cropped"] * 2 - 1) == ["center-crop-vs-stretch"]
    assert pictures(ways["stretched"] * 2 - 1, ways["stretched"].flip(-1) * 2 - 1) == []
