"""One torch function computed in another way reproduces the other side: then that is what it does differently."""

import pytest
import torch
import torch.nn.functional as F
from inside_toys import lab, pair

from whydiff.causes.inside.explain import explain


class Attention(torch.nn.Module):
    """Joint attention: text tokens first, then those of the image; a hand-written rms norm of q and k."""

    def __init__(self, attend=F.scaled_dot_product_attention, exchanged=False):
        super().__init__()
        self.qkv, self.norm_q, self.norm_k = torch.nn.Linear(32, 96), torch.nn.RMSNorm(16, eps=1e-6), torch.nn.RMSNorm(16, eps=1e-6)
        self.attend, self.exchanged = attend, exchanged

    def forward(self, image, text, mask=None):
        x = torch.cat([image, text] if self.exchanged else [text, image], 1)
        q, k, v = (t.unflatten(-1, (2, 16)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        return self.attend(self.norm_q(q), self.norm_k(k), v, attn_mask=mask)


class Modulated(torch.nn.Module):
    """Layer norm, shift and scale from a vector, a gated feed-forward layer."""

    def __init__(self):
        super().__init__()
        self.norm, self.linear = torch.nn.LayerNorm(32, elementwise_affine=False), torch.nn.Linear(32, 64)
        self.up = torch.nn.Linear(32, 64)

    def forward(self, x, vector):
        return self.gated(self.modulated(x, vector))

    def modulated(self, x, vector):
        shift, scale = self.linear(F.silu(vector)).chunk(2, -1)
        return self.norm(x) * (1 + scale[:, None]) + shift[:, None]

    def gated(self, x):
        value, gate = self.up(x).chunk(2, -1)
        return value * F.gelu(gate)


def randn(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


IMAGE, TEXT, VECTOR = randn(2, 9, 32), randn(2, 5, 32, seed=2), randn(2, 32, seed=3)
KEPT = torch.arange(14)[None, None, None, :] < 10


def sdpa(change):
    def attend(q, k, v, attn_mask=None):
        return change(q, k, v, attn_mask)

    return lambda m: setattr(m, "attend", attend)


def patched(path, forward):
    def damage(module):
        inner = module.get_submodule(path) if path else module
        inner.forward = lambda *args: forward(inner, *args)

    return damage


def local_rms(m, x):
    return torch.cat([F.rms_norm(part, (8,), eps=m.eps) for part in x.chunk(2, -1)], -1) * m.weight


def other_modulation(m, x, vector):
    scale, shift = m.linear(F.silu(vector)).chunk(2, -1)
    return m.gated(m.norm(x) * (1 + scale[:, None]) + shift[:, None])


def other_gate(m, x, vector):
    gate, value = m.up(m.modulated(x, vector)).chunk(2, -1)
    return value * F.gelu(gate)


attention = F.scaled_dot_product_attention
ATTENTIONS = {
    "attention-mask-dropped": sdpa(lambda q, k, v, m: attention(q, k, v)),
    "attention-mask-inverted": sdpa(lambda q, k, v, m: attention(q, k, v, attn_mask=~m)),
    "attention-mask-added-as-bool": sdpa(lambda q, k, v, m: attention(q, k, v, attn_mask=m.float())),
    "qk-norm-config": lambda m: setattr(m, "norm_q", torch.nn.Identity()),
}
UNMASKED = {
    "ring-double-counts-replicated-text": sdpa(lambda q, k, v, m: attention(q, torch.cat([k, k[..., :5, :]], -2), torch.cat([v, v[..., :5, :]], -2))),
    "sp-padding-unmasked": sdpa(lambda q, k, v, m: attention(q, F.pad(k, (0, 0, 0, 2)), F.pad(v, (0, 0, 0, 2)))),
    "sp-concat-order": lambda m: setattr(m, "exchanged", True),
    "tp-norm-local-statistics": patched("norm_q", local_rms),
}
BLOCKS = {
    "adaln-shift-scale-swapped": patched("", other_modulation),
    "gate-up-swapped": patched("", other_gate),
    "activation-function": lambda m: setattr(m, "gated", lambda x: m.up(x).chunk(2, -1)[0] * F.silu(m.up(x).chunk(2, -1)[1])),
    "gelu-tanh-vs-exact": lambda m: setattr(m, "gated", lambda x: m.up(x).chunk(2, -1)[0] * F.gelu(m.up(x).chunk(2, -1)[1], approximate="tanh")),
}


def ids(inside):
    return [cause.id for cause in explain([inside], None, lab())[0]]


@pytest.mark.parametrize("role", ["candidate", "reference"])
@pytest.mark.parametrize("cause", [*ATTENTIONS, *UNMASKED, *BLOCKS])
def test_the_variant_that_reproduces_is_named_on_either_side(cause, role):
    if cause in BLOCKS:
        inside = pair(Modulated(), BLOCKS[cause], IMAGE, VECTOR, role=role)
    elif cause in ATTENTIONS:
        inside = pair(Attention(), ATTENTIONS[cause], IMAGE, TEXT, mask=KEPT.expand(2, 1, 14, 14), role=role)
    else:
        inside = pair(Attention(), UNMASKED[cause], IMAGE, TEXT, role=role)
    assert ids(inside) == [cause]


@pytest.mark.parametrize("role", ["candidate", "reference"])
def test_sixteen_bits_in_a_modulation_and_after_a_norm(role):
    low = patched("", lambda m, x: F.linear(x.bfloat16(), m.weight.bfloat16(), m.bias.bfloat16()).float())
    modulation = pair(torch.nn.Linear(32, 64), low, VECTOR, name="transformer/blocks.0.norm1.linear", role=role)
    norm = pair(torch.nn.LayerNorm(32), patched("", lambda m, x: F.layer_norm(x, (32,), m.weight, m.bias).bfloat16().float()), IMAGE,
                name="transformer/blocks.0.norm1.norm", role=role)  # fmt: skip
    assert [ids(modulation), ids(norm)] == [["modulation-low-precision"], ["fused-norm-rounding-point"]]


def test_an_exchange_that_only_one_sides_code_shows_leaves_open_who_departs():
    class Sliced(Modulated):
        """The same with shift and scale exchanged, in code that no variant reaches."""

        def modulated(self, x, vector):
            both = self.linear(F.silu(vector))
            return self.norm(x) * (1 + both[:, None, :32]) + both[:, None, 32:]

    def rewrite(module):
        module.__class__ = Sliced

    for role, departs in (("reference", "unknown"), ("candidate", "candidate")):
        inside = pair(Modulated(), rewrite, torch.randn(1, 6, 32), torch.randn(1, 32), role=role, name="transformer/block.norm1")
        [cause], _ = explain([inside], None, lab())
        assert (cause.id, cause.departs) == ("adaln-shift-scale-swapped", departs)


def test_interpolation_and_norms_by_tile_in_a_decoder():
    picture = randn(1, 8, 6, 8)
    up = torch.nn.Upsample(scale_factor=2.0, mode="nearest")
    smooth = patched("", lambda m, x: F.interpolate(x, scale_factor=2.0, mode="bilinear"))
    tiles = patched("", lambda m, x: torch.cat([F.group_norm(t, 2, m.weight, m.bias, m.eps) for t in x.chunk(2, -1)], -1))
    assert ids(pair(up, smooth, picture, stage="vae", name="vae/decoder.up.0")) == ["decoder-upsample-mode"]
    assert ids(pair(torch.nn.GroupNorm(2, 8), tiles, picture, stage="vae", name="vae/decoder.norm")) == ["groupnorm-per-tile"]


def test_values_beyond_float16_are_named_and_other_infinities_are_not():
    over = pair(torch.nn.Linear(32, 8), patched("", lambda m, x: F.linear(1e6 * x, m.weight).half().float()), IMAGE)
    divided = pair(torch.nn.Linear(32, 8), patched("", lambda m, x: F.linear(x, m.weight) / 0.0), IMAGE)
    assert ids(over) == ["dit-fp16-overflow"]
    assert ids(divided) == []


@pytest.mark.parametrize("forward", [lambda m, x: 1.02 * F.linear(x, m.weight, m.bias), lambda m, x: F.linear(x, m.weight, m.bias).roll(1, -1),
                                     lambda m, x: F.linear(x, m.weight, m.bias).tanh()], ids=["scaled", "rolled", "tanh"])  # fmt: skip
def test_a_change_that_no_variant_reproduces_stays_unexplained(forward):
    assert ids(pair(torch.nn.Linear(32, 32), patched("", forward), IMAGE)) == []


def test_a_variant_without_a_catalogue_id_is_told_and_not_named():
    inside = pair(Attention(), sdpa(lambda q, k, v, m: attention(q, k, v, scale=1.0)), IMAGE, TEXT)
    assert ids(inside) == []
    assert "not scaled" in inside.found


def test_a_layer_with_the_weights_of_another_at_one_call_is_a_race():
    root = torch.nn.Sequential(torch.nn.Linear(32, 32), torch.nn.Linear(32, 32))
    inside = pair(root[0], lambda m: None, IMAGE)
    inside.modules["candidate"].forward = lambda x: root[1](x)
    inside.roots["reference"] = root
    assert ids(inside) == ["offload-stream-race"]


def test_tables_of_local_positions_and_of_exchanged_axes():
    class Rope(torch.nn.Module):
        def forward(self, ids):
            phases = torch.cat([ids[:, i : i + 1] * 100.0 ** -torch.linspace(0, 1, 4) for i in range(3)], -1)
            return phases.cos(), phases.sin()

    positions = torch.stack([torch.arange(12.0), torch.arange(12.0) % 4, torch.arange(12.0) // 4], -1)
    local = pair(Rope(), patched("", lambda m, ids: Rope()(torch.cat([ids[:6], ids[:6]]))), positions, name="transformer/rope")
    axes = pair(Rope(), patched("", lambda m, ids: Rope()(ids[:, [0, 2, 1]])), positions, name="transformer/rope")
    assert [ids(local), ids(axes)] == [["sp-condition-sharded"], ["rope-axis-split"]]


class Enlarged(torch.nn.Module):
    """Enlarges a picture and convolves it, as decoders do between their blocks."""

    def __init__(self, mode="nearest-exact"):
        super().__init__()
        self.conv, self.mode = torch.nn.Conv2d(4, 4, 3, padding=1), mode

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode=self.mode))


def test_another_interpolation_in_a_decoder_is_named():
    def damage(module):
        module.forward = lambda x: module.conv(F.interpolate(x, scale_factor=2.0, mode="bilinear"))

    for role in ("candidate", "reference"):
        found, left = explain([pair(Enlarged(), damage, randn(1, 4, 6, 5), name="vae/up", stage="vae", role=role)], None, lab())
        assert [c.id for c in found] == ["decoder-upsample-mode"] and not left


def test_where_both_compute_the_same_no_experiment_passes():
    """A variant that changes no bit reproduces what was equal before: that shows nothing."""
    same = pair(Enlarged(), lambda module: None, randn(1, 4, 6, 5), name="vae/up", stage="vae")
    found, left = explain([same], None, lab())
    assert found == [] and left == [same] and not same.found


class Waves(torch.nn.Module):
    """Sines and cosines of a time, as features, and attention written out by hand."""

    def __init__(self):
        super().__init__()
        self.turned, self.constant, self.linear = False, 32**-0.5, torch.nn.Linear(32, 32)

    def forward(self, x):
        parts = [x.sin(), x.cos()]
        q = self.linear(torch.cat(parts[::-1] if self.turned else parts, -1))
        return (q @ q.transpose(-1, -2) * self.scale()).softmax(-1) @ q

    def scale(self):
        return 32**-0.5


def test_features_joined_in_another_order_are_no_tokens_in_another_order():
    inside = pair(Waves(), lambda m: object.__setattr__(m, "turned", True), randn(1, 4, 16))
    del inside.modules["reference"].turned, inside.modules["candidate"].turned  # no state that differs: only the code does
    type(inside.modules["reference"]).turned = False
    inside.modules["candidate"].__class__ = type("Turned", (Waves,), {"turned": True})
    assert ids(inside) == [] and "concatenated stands in the other order" in inside.found


def test_a_constant_that_is_squared_is_told_without_a_cause():
    inside = pair(Waves(), lambda m: setattr(m, "scale", lambda: 1 / 32), randn(1, 4, 16))
    assert ids(inside) == [] and "constant factor is squared" in inside.found


class Gated(torch.nn.Module):
    """Two layers that see the same, one of them through an activation (or not)."""

    def __init__(self, activation=F.silu):
        super().__init__()
        self.first, self.second, self.activation = torch.nn.Linear(32, 64), torch.nn.Linear(32, 64), activation

    def forward(self, x):
        return self.activation(self.first(x)) * (1 + self.second(x))


def exchanged(m):
    def forward(x):
        return m.activation(m.second(x)) * (1 + m.first(x))

    m.forward = forward


@pytest.mark.parametrize("role", ["candidate", "reference"])
def test_gate_and_value_of_two_layers_are_seen_exchanged_where_one_is_activated(role):
    assert ids(pair(Gated(), exchanged, IMAGE, role=role)) == ["gate-up-swapped"]
    inside = pair(Gated(lambda x: 2 * x), exchanged, IMAGE, role=role)
    assert ids(inside) == [] and "are exchanged" in inside.found


class Rotated(torch.nn.Module):
    """Attention whose normed queries and keys are turned, pair by pair; `late` turns them after heads were moved in front."""

    def __init__(self, turn, late):
        super().__init__()
        self.qkv, self.turn, self.late = torch.nn.Linear(32, 96), turn, late

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 16)).unbind(-3)
        q, k = (F.rms_norm(t, (16,)) for t in (q, k))
        q, k, v = self.turned(q, k, v) if not self.late else self.turned(*(t.transpose(1, 2) for t in (q, k, v)))
        q, k, v = (t if self.late else t.transpose(1, 2) for t in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def turned(self, q, k, v):
        return self.turn(q, -2 if self.late else -3), self.turn(k, -2 if self.late else -3), v


def angles(x, axis):
    shape = [1] * x.dim()
    shape[axis], shape[-1] = x.shape[axis], x.shape[-1] // 2
    return (torch.arange(x.shape[axis])[:, None] * 0.5 ** torch.arange(x.shape[-1] // 2)).reshape(shape)


def halves(x, axis):
    (a, b), t = x.chunk(2, -1), angles(x, axis)
    return torch.cat([a * t.cos() - b * t.sin(), a * t.sin() + b * t.cos()], -1)


def neighbours(x, axis):
    a, b, t = x[..., ::2], x[..., 1::2], angles(x, axis)
    return torch.stack([a * t.cos() - b * t.sin(), a * t.sin() + b * t.cos()], -1).flatten(-2)


@pytest.mark.parametrize("role", ["candidate", "reference"])
@pytest.mark.parametrize("turn, late", [(halves, True), (neighbours, False)])
def test_queries_and_keys_that_one_side_does_not_rotate(role, turn, late):
    still = pair(Rotated(turn, late), lambda m: setattr(m, "turned", lambda q, k, v: (q, k, v)), IMAGE, role=role)
    assert ids(still) == ["rope-not-applied"]
    other = pair(Rotated(turn, late), lambda m: setattr(m, "turned", lambda q, k, v: (q, turn(k, -2 if late else -3), v)), IMAGE, role=role)
    assert ids(other) == []
