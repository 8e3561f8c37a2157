"""With recorded tensors alone, what is inherited has no cause of its own."""

import torch
from recorded_lab import lab_of, normal, trace

from whydiff.causes import size
from whydiff.engine.recorded import walk_recorded
from whydiff.engine.rows import compare_runs
from whydiff.measure.layouts import pack
from whydiff.places import Place


def causes(reference, candidate, **settings):
    lab = lab_of(trace(reference, settings), trace(candidate, settings))
    return [(entry.finding.probe, [e.id for e in entry.explanations]) for entry in walk_recorded(lab, compare_runs(lab), size.explain(lab))]


def test_values_that_are_not_finite_are_blamed_where_they_first_appear():
    embeds, latents, decoded = normal(1, 5, 8), normal(1, 4, 4, 4, seed=1), normal(1, 3, 8, 8, seed=2)
    picture = (decoded.movedim(1, -1) / 2 + 0.5).clamp(0, 1)
    whole = {"prompt_embeds": embeds, Place("latents", 0): latents, "vae_latents": latents, "decoded": decoded,
             "image": picture}  # fmt: skip
    late = whole | {"vae_latents": latents * torch.nan, "decoded": decoded * torch.nan, "image": picture * 0}
    early = late | {"prompt_embeds": embeds * torch.nan, Place("latents", 0): latents * torch.nan}
    assert causes(whole, late) == [("vae_latents", ["nan-cast-to-black"])]
    for found in (causes(whole, early), causes(early, whole)):
        assert [probe for probe, _ in found] == ["prompt_embeds"] and "nan-cast-to-black" not in found[0][1]


def packed(height, width, seed=3):
    drawn = torch.randn(1, 4, height, width, generator=torch.Generator().manual_seed(seed))
    ids = torch.stack(torch.meshgrid(torch.arange(height // 2), torch.arange(width // 2), indexing="ij"), -1).reshape(-1, 2).float()
    return {"initial_noise": pack(drawn), Place("model_input/img_ids", 0): ids, "image": torch.rand(1, 8 * height, 8 * width, 3)}


def test_noise_and_positions_of_another_size_follow_from_the_size():
    assert causes(packed(8, 6), packed(6, 8), seed=3) == [("settings", ["height-width-swapped"])]


def test_another_seed_is_named_beside_another_size():
    assert causes(packed(8, 6), packed(6, 8, seed=4), seed=3) == [("settings", ["height-width-swapped"]), ("initial_noise", ["seed"])]
