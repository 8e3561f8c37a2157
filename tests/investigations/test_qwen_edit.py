"""Qwen-Image-Edit in small: which suspicions cannot act, which can, and what the verdict makes of the figures."""

import pytest

from whydiff import Trouble
from whydiff.measure.published import Published
from whydiff.measure.published_families import judge, normal_family

FIGURES = ("5.94", "1.09", "8.26e4", "8.62", [1, 16, 1, 147, 110])
EXACT = {"training mode", "patches in another order", "conditioning through a .pt file", "random numbers drawn before"}
AT_ONE = {"another negative", "CFGNorm left out"}


@pytest.fixture(scope="module")
def story():
    from qwen_edit import story

    return story


@pytest.fixture(scope="module")
def tried(story):
    return story.try_all(cfg=1.0, weights=1)


def test_four_suspicions_and_two_at_cfg_one_are_exact_no_ops(tried):
    assert {t.suspicion.name for t in tried if t.exact} == EXACT | AT_ONE


def test_the_negative_and_the_norm_act_where_guidance_does(story):
    guided = story.try_all(cfg=2.5, weights=1, suspicions=[s for s in story.SUSPICIONS if s.name in EXACT | AT_ONE])
    assert {t.suspicion.name for t in guided if t.exact} == EXACT


def test_a_lost_reference_shows_first_in_the_tokens_that_the_model_receives(tried):
    [lost] = [t for t in tried if t.suspicion.name.startswith("metadata lost")]
    assert not lost.exact and lost.first_probe == "latent_model_input"


def test_an_adapter_whose_keys_match_nothing_is_silent_and_changes_the_result():
    from qwen_edit.pipeline import microservice

    side = microservice(lora_prefix="diffusion_model.")
    assert side.unmatched and not microservice().unmatched


def test_the_no_ops_hold_on_an_unchanged_diffusers_pipeline():
    from qwen_edit import standard

    equal = {row[0]: row[2] for row in standard.no_ops(1.0).rows}
    assert not equal.pop("another seed") and all(equal.values())
    assert not {row[0]: row[2] for row in standard.no_ops(4.0).rows}["another negative"]


def test_a_node_leaves_the_patcher_it_was_given_alone():
    from qwen_edit import nodes
    from qwen_edit.pipeline import make_lora, make_transformer

    plain = nodes.Patcher(make_transformer(0))
    before = {name: value.clone() for name, value in plain.transformer.state_dict().items()}
    patched = nodes.load_lora(nodes.sampling_aura_flow(plain, 3.0), make_lora(plain.transformer, 0))
    made = patched.patched().state_dict()
    assert plain.weights == () and plain.shift is None and patched.shift == 3.0
    assert all(bool((before[name] == value).all()) for name, value in plain.transformer.state_dict().items())
    assert any(bool((before[name] != made[name]).any()) for name in before)


def test_the_ranking_sets_the_guess_beside_the_experiment(story, tried):
    rows = story.ranking(tried).rows
    assert [row[2] for row in rows] == ["40 %", "30 %", "20 %", "10 %"]
    assert [row[3] == "cannot act" for row in rows] == [True, False, True, False]


def test_the_verdict_follows_figures_and_experiments(story, tried):
    published = Published.read(*FIGURES)
    noise = judge(published, normal_family("two noises", free=False), FIGURES[4], draws=4)
    words = story.verdict(published, [noise], tried).words()
    assert "0.966" in words and "two independent unit normals are excluded" in words and "next: latent_model_input" in words
    other = story.verdict(Published.read("6.6", "1.128", "2e5", "8.0", FIGURES[4]), [], [t for t in tried if "metadata" not in t.suspicion.name])
    assert "normals are possible" in other.words() and "latent_model_input" not in other.words()


def test_no_weights_at_all_are_refused(story):
    with pytest.raises(Trouble, match="at least 1"):
        story.try_all(weights=0)


@pytest.mark.slow
def test_what_follows_from_tokens_that_are_missing_is_not_told_as_a_second_place():
    import pathlib

    import whydiff

    verdict = whydiff.diagnose(case=str(pathlib.Path(__file__).resolve().parents[2] / "data" / "cases" / "qwen_metadata.yaml"))
    [entry] = verdict.unexplained
    assert entry["probe"] == "latent_model_input" and "the candidate's is the first 15 of the other's 30" in entry["why"]
    assert any(note.startswith("noise_pred differs, too") for note in verdict.notes)
