"""A VAE's picture as a whole: decoded in parts, without its first convolution, cut short, blended otherwise; mean or sample."""

import types

import pytest
import torch
from diffusers import AutoencoderKL

from whydiff.causes.finding import Finding
from whydiff.causes.inside import decoding
from whydiff.evidence.traces.trace import Event, Trace
from whydiff.measure.compare import relative_l2
from whydiff.places import Place

PLACE = {probe: Place(probe) for probe in ("decoded", "vae_latents", "image_latents", "init_image")}


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return AutoencoderKL(block_out_channels=(8, 8), down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2,
                         norm_num_groups=2, latent_channels=4, sample_size=16).eval()  # fmt: skip


def lab(vae, roles=("reference", "candidate"), **recorded):
    trace = Trace()
    for probe, tensor in recorded.items():
        trace.add(Event(PLACE[probe], tensor))
    sides = {role: types.SimpleNamespace(components={"vae": vae} if role in roles else {}) for role in ("reference", "candidate")}
    return types.SimpleNamespace(traces={"reference": trace}, sides=sides, notes=[],
                                 closes=lambda finding, target, after: relative_l2(target, after) <= 1e-5)  # fmt: skip


def finding(reference, candidate, probe="decoded"):
    place = PLACE[probe]
    return Finding(probe, [place], {place: reference}, {place: candidate}, relative_l2(reference, candidate), 1e-7)


def latents():
    return torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def decoded(vae, z):
    return vae.decode(z, return_dict=False)[0]


def ids(found):
    return [(cause.id, cause.departs) for cause in found]


@pytest.mark.parametrize("role", ["candidate", "reference"])
def test_parts_decoded_on_their_own_and_a_convolution_left_out(vae, role):
    z, healthy = latents(), [r for r in ("reference", "candidate") if r != role]
    whole, parts = decoded(vae, z), torch.cat([decoded(vae, part) for part in z.chunk(2, -1)], -1)
    with torch.no_grad():
        bare = vae.decoder(z)
    for other, cause in ((parts, "groupnorm-per-tile"), (bare, "quant-conv-missing")):
        pair = (whole, other) if role == "candidate" else (other, whole)
        assert ids(decoding.explain(finding(*pair), lab(vae, healthy, vae_latents=z))) == [(cause, role)]


def test_an_end_that_is_not_computed_is_told_from_one_that_is_computed_otherwise(vae):
    whole = decoded(vae, latents())
    cut, other = whole.clone(), whole.clone()
    cut[..., -3:, :] = 0.0
    other[..., -3:, :] *= 1.1
    assert ids(decoding.explain(finding(whole, cut), lab(vae, vae_latents=latents()))) == [("last-frames-corrupt", "candidate")]
    assert decoding.explain(finding(whole, other), lab(vae, vae_latents=latents())) == []


def test_differences_on_the_overlap_of_tiles_alone():
    tiled = torch.nn.Module()
    tiled.use_tiling, tiled.tile_sample_min_size, tiled.tile_latent_min_size, tiled.tile_overlap_factor = True, 16, 8, 0.25
    tiled.decode = lambda *a, **k: None
    whole = torch.rand(1, 3, 24, 24) + 0.5
    bands, outside = whole.clone(), whole.clone()
    bands[..., 12:16, 5] += 0.2
    outside[..., 3, 5] += 0.2
    assert ids(decoding.explain(finding(whole, bands), lab(tiled))) == [("tile-blend-neighbours", "candidate")]
    assert decoding.explain(finding(whole, outside), lab(tiled)) == []


def test_a_sample_of_the_posterior_against_its_mean(vae):
    pixels = torch.rand(1, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        posterior = vae.encode(pixels).latent_dist
    sample, mean = posterior.sample(torch.Generator().manual_seed(0)), posterior.mode()
    bench = lab(vae, init_image=pixels)
    assert ids(decoding.explain(finding(mean, sample, "image_latents"), bench)) == [("posterior-sample-vs-mode", "unknown")]
    assert decoding.explain(finding(mean, mean + 3 * (sample - mean), "image_latents"), bench) == []
