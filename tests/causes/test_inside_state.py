"""A module given the other side's state computes what the other side does: then that state is the cause."""

import pytest
import torch
from inside_toys import lab, pair

from whydiff.causes.inside.explain import explain
from whydiff.causes.inside.weights import change

TOKENS = torch.randn(2, 12, 32, generator=torch.Generator().manual_seed(1))
VECTOR = torch.randn(2, 32, generator=torch.Generator().manual_seed(2))


def named(inside):
    causes, left = explain([inside], None, lab())
    return [cause.id for cause in causes], left


def weights(change):
    def damage(module):
        with torch.no_grad():
            module.weight.copy_(change(module.weight.clone()))

    return damage


def generator():
    return torch.Generator().manual_seed(3)


def halves(w):
    return torch.cat(w.chunk(2)[::-1])


def some_replaced(w):
    w.view(-1)[torch.randperm(w.numel(), generator=generator())[:9]] = torch.randn(9, generator=generator())
    return w


def plus_low_rank(w):
    return w + torch.randn(w.shape[0], 2, generator=generator()) @ torch.randn(2, w.shape[1], generator=generator())


def plus_kronecker(w):
    return w + torch.kron(torch.randn(4, 4, generator=generator()), torch.randn(w.shape[0] // 4, w.shape[1] // 4, generator=generator()))


def unrelated(w):
    return torch.randn(w.shape, generator=generator())


CHANGED_WEIGHTS = [(halves, VECTOR, "transformer/norm_out.linear", "adaln-shift-scale-swapped"),
                   (halves, TOKENS, "transformer/blocks.0.ff.up", "gate-up-swapped"),
                   (some_replaced, TOKENS, "transformer/blocks.0.proj", "checkpoint-file-corrupt"),
                   (plus_low_rank, TOKENS, "transformer/blocks.0.to_q", "lora-alpha-default"),
                   (plus_kronecker, TOKENS, "transformer/blocks.0.to_q", "lora-lokr-alpha"),
                   (torch.zeros_like, TOKENS, "transformer/blocks.0.to_q", "missing-keys-nonstrict"),
                   (unrelated, TOKENS, "transformer/blocks.0.to_q", "missing-keys-nonstrict")]  # fmt: skip


@pytest.mark.parametrize("role", ["candidate", "reference"])
@pytest.mark.parametrize("change, inputs, name, cause", CHANGED_WEIGHTS, ids=[f"{c[0].__name__}-{c[3]}" for c in CHANGED_WEIGHTS])
def test_weights_tell_what_happened_to_them(change, inputs, name, cause, role):
    assert named(pair(torch.nn.Linear(32, 64), weights(change), inputs, name=name, role=role)) == ([cause], [])


@pytest.mark.parametrize("change", [lambda w: 1.02 * w, lambda w: w.roll(1, 0), lambda w: w.index_fill(0, torch.tensor([3]), 0.0)],
                         ids=["scaled", "rolled", "one row zeroed"])  # fmt: skip
def test_weights_changed_in_a_way_no_bug_is_known_for_stay_unexplained(change):
    inside = pair(torch.nn.Linear(32, 64), weights(change), TOKENS)
    assert named(inside) == ([], [inside])
    assert "weight" in inside.found


@pytest.mark.parametrize("stage, cause", [("model_forward", "norm-eps"), ("prompt_encoding", "text-encoder-norm-eps")])
def test_another_epsilon_is_named_by_where_the_norm_is(stage, cause):
    inside = pair(torch.nn.LayerNorm(32), lambda m: setattr(m, "eps", 1e-3), TOKENS, stage=stage)
    assert named(inside) == ([cause], [])


def test_a_number_that_has_no_name_is_told_and_no_experiment_fails_over_it():
    inside = pair(torch.nn.GroupNorm(8, 32), lambda m: setattr(m, "num_groups", 4), TOKENS.transpose(1, 2))
    laboratory = lab()
    assert explain([inside], None, laboratory) == ([], [inside]) and "num_groups" in inside.found and not laboratory.notes


@pytest.mark.parametrize("role", ["candidate", "reference"])
def test_the_side_in_training_mode_departs(role):
    inside = pair(torch.nn.Sequential(torch.nn.Linear(32, 32), torch.nn.Dropout(0.2)), lambda m: m.train(), TOKENS, role=role)
    (cause,), _ = explain([inside], None, lab())
    assert (cause.id, cause.departs) == ("eval-mode-missing", role)


def test_settings_of_diffusers_modules_are_compared():
    from diffusers.models.activations import GELU
    from diffusers.models.embeddings import Timesteps

    gelu = pair(GELU(32, 64, approximate="tanh"), lambda m: setattr(m, "approximate", "none"), TOKENS)
    time = pair(Timesteps(32, True, 0), lambda m: setattr(m, "downscale_freq_shift", 1), torch.tensor([700.0]))
    assert [named(inside)[0] for inside in (gelu, time)] == [["gelu-tanh-vs-exact"], ["downscale-freq-shift"]]


class Rotation(torch.nn.Module):
    def __init__(self, complex_table=False):
        super().__init__()
        phases = torch.arange(12.0)[:, None] * 10000.0 ** -torch.linspace(0, 1, 16)
        self.register_buffer("inv_freq", 10000.0 ** -torch.linspace(0, 1, 16))
        if complex_table:
            self.register_buffer("freqs_cis", torch.polar(torch.ones_like(phases), phases))

    def forward(self, x):
        if hasattr(self, "freqs_cis"):
            table = self.freqs_cis.to(torch.complex64)
            return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * table).flatten(-2)
        phases = torch.arange(12.0)[:, None] * self.inv_freq.float()
        return phases.cos(), phases.sin()


def test_tables_of_rotations_that_lost_precision_or_their_imaginary_part():
    low = pair(Rotation(), lambda m: m.register_buffer("inv_freq", m.inv_freq.bfloat16()), TOKENS, name="transformer/rope")
    vision = pair(Rotation(), lambda m: m.register_buffer("inv_freq", m.inv_freq.bfloat16()), TOKENS, name="image_encoder/rope")
    real = pair(Rotation(True), lambda m: m.register_buffer("freqs_cis", m.freqs_cis.real.clone()), TOKENS, name="transformer/rope")
    assert [named(inside)[0] for inside in (low, vision, real)] == [["rope-phase-low-precision"], ["vision-rotary-low-precision"],
                                                                    ["rope-complex-buffer-cast"]]  # fmt: skip


def test_repairing_a_state_for_an_experiment_leaves_it_as_it_was():
    inside = pair(torch.nn.Linear(32, 64), weights(plus_low_rank), TOKENS)
    before = {role: m.weight.detach().clone() for role, m in inside.modules.items()}
    named(inside)
    assert all(torch.equal(inside.modules[role].weight, weight) for role, weight in before.items())


def test_a_cached_table_of_complex_rotations_is_made_again_for_an_experiment():
    from diffusers.models.transformers.transformer_qwenimage import QwenEmbedRope

    def rounded(m):
        for key in ("pos_freqs", "neg_freqs"):
            index = torch.arange(4096) if key == "pos_freqs" else torch.arange(4096).flip(0) * -1 - 1
            phases = [torch.outer(index, 10000.0 ** -(torch.arange(0, d, 2) / d)).bfloat16().float() for d in m.axes_dim]
            setattr(m, key, torch.polar(torch.ones(4096, 8), torch.cat(phases, 1)))

    def real(m):
        m.pos_freqs, m.neg_freqs = m.pos_freqs.real.clone(), m.neg_freqs.real.clone()

    def other_base(m):
        m.pos_freqs = QwenEmbedRope(9000, [4, 6, 6]).pos_freqs

    rope = QwenEmbedRope(10000, [4, 6, 6], scale_rope=True)
    found = [named(pair(rope, damage, [(1, 4, 4)], max_txt_seq_len=7, name="transformer/pos_embed"))[0] for damage in (rounded, real, other_base)]
    assert found == [["rope-phase-low-precision"], ["rope-complex-buffer-cast"], []]


class Phases(torch.nn.Module):
    """Sines of a number at frequencies that are kept as a buffer, and computed in a type of its own."""

    def __init__(self):
        super().__init__()
        self.register_buffer("frequencies", torch.logspace(0, -4, 32))
        self.compute_dtype = torch.float32

    def forward(self, x):
        return (1000 * x.to(self.compute_dtype) * self.frequencies.to(self.compute_dtype)).sin().float()


@pytest.mark.parametrize("role", ["candidate", "reference"])
@pytest.mark.parametrize("damage", [lambda m: m.frequencies.copy_(m.frequencies.bfloat16()), lambda m: setattr(m, "compute_dtype", torch.bfloat16)],
                         ids=["table", "type"])  # fmt: skip
def test_a_table_or_a_type_of_fewer_bits_is_a_lower_precision_of_that_side(damage, role):
    [cause], left = explain([pair(Phases(), damage, TOKENS, name="transformer/time.embedding", role=role)], None, lab())
    assert (cause.id, cause.departs) == ("undeclared-dtype", role) and not left


def test_an_update_of_a_third_of_the_rank_is_low_and_rows_that_are_scaled_or_moved_are_not():
    weight = torch.randn(24, 24, generator=generator())
    update = torch.randn(24, 8, generator=generator()) @ torch.randn(8, 24, generator=generator())
    assert change(weight, weight + update).kind == "low_rank"
    scaled, moved = weight.clone(), weight.clone()
    scaled[:11] *= 1.5
    moved[:12:2], moved[1:12:2] = weight[1:12:2], weight[:12:2]
    assert {change(weight, other).kind for other in (scaled, moved)} == {"other"}
