"""What is left when every named cause is undone at once, and what each alone brings."""

import pytest
import torch

from whydiff.engine.api import study
from whydiff.engine.store import load_study, save_study


def sampler(scale=1.0, factor=1.0, leftover=0.0):
    """Three steps of a toy network that is fed a timestep. Defects: its noise is scaled, its timestep, and its picture is moved."""

    def pipe(seed=0):
        import whydiff

        noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed)) * scale
        latents = whydiff.tap("initial_noise", noise)
        for k in range(3):
            t = whydiff.tap("model_input/timestep", torch.tensor([0.9 - 0.3 * k]) * factor, step=k)
            made = whydiff.tap("noise_pred_text", torch.tanh(latents) * t.sin() + leftover * latents.roll(1, -1) ** 2, step=k)
            latents = whydiff.tap("latents", latents - 0.3 * made, step=k)
        return whydiff.tap("image", torch.sigmoid(latents.movedim(1, -1)[..., :3]))

    return pipe


@pytest.fixture(scope="module")
def two_causes():
    return study(reference=sampler(), candidate=sampler(scale=0.5, factor=0.001), call={"seed": 0})


def test_with_all_causes_undone_nothing_is_left(two_causes):
    assert [cause.id for cause in two_causes.verdict.causes] == ["init-noise-sigma-missing", "timestep-scale-1000"]
    run = two_causes.lab.repaired_all
    assert set(run.put) == {"initial_noise", "model_input/timestep"}
    assert {row.place.probe for row in run.rows} == {"noise_pred_text", "latents", "image"} and all(row.equal for row in run.rows)
    assert torch.equal(run.picture, two_causes.reference.get("image"))


def test_with_one_of_two_undone_the_other_is_still_seen(two_causes):
    noise = two_causes.named[0].repaired
    rows = {row.place.probe: row for row in noise.rows}
    assert noise.put == ["initial_noise"] and rows["model_input/timestep"].stands_out and rows["image"].stands_out


def test_one_cause_takes_no_run_more():
    found = study(reference=sampler(), candidate=sampler(factor=0.001), call={"seed": 0})
    assert found.lab.repaired_all is found.named[0].repaired is not None


def test_what_is_unexplained_is_left_over():
    found = study(reference=sampler(), candidate=sampler(factor=0.001, leftover=0.01), call={"seed": 0})
    assert found.verdict.unexplained and any(row.stands_out for row in found.lab.repaired_all.rows)


def test_the_pictures_are_kept_with_the_study(two_causes, tmp_path, monkeypatch):
    save_study(two_causes, tmp_path)
    kept = load_study(tmp_path)
    assert torch.equal(kept.lab.repaired_all.picture, two_causes.lab.repaired_all.picture)
    assert [entry.repaired.rows for entry in kept.named] == [entry.repaired.rows for entry in two_causes.named]
