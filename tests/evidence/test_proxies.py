"""Modules of a side in another interpreter, used by an experiment like modules that are here."""

import copy

import pytest
import torch
from other_interpreter import SIDES, bare_interpreter

from whydiff.causes.inside.functions import watched, with_variant
from whydiff.evidence.remote.side import RemoteSide

X = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def side(tmp_path_factory):
    folder = tmp_path_factory.mktemp("proxies")
    (folder / "sides.py").write_text(SIDES)
    python = bare_interpreter(folder / "venv")
    made = RemoteSide(python, folder / "sides.py", "sampler", {"prompt": "a circle", "seed": 0}, role="candidate")
    yield made
    made.session.child.close()


@pytest.fixture
def block(side):
    return side.components["transformer"].blocks[0]


def test_a_proxy_looks_like_the_module(side, block):
    assert type(block).__name__ == "Block" and isinstance(block.up, torch.nn.Linear) and block.norm.eps == 1e-5
    assert torch.equal(block.up(X), torch.nn.functional.linear(X, block.up.weight, block.up.bias))
    assert list(dict(side.components["transformer"].named_parameters()))[0] == "blocks.0.norm.weight"


def changes():
    def data(linear):
        linear.weight.data = linear.weight.data * 2

    def in_place(linear):
        linear.weight.mul_(2)

    def without_bias(linear):
        linear.bias = None

    def half(linear):
        linear.bfloat16().float()

    return [data, in_place, without_bias, half]


@pytest.mark.parametrize("change", changes(), ids=lambda change: change.__name__)
def test_a_change_of_weights_is_mirrored_and_so_is_its_undoing(block, change):
    before, kept = block.up(X), (block.up.weight.data, block.up.weight.clone(), block.up.bias, block.up.bias.clone())
    with torch.no_grad():
        change(block.up)
        assert torch.equal(block.up(X), torch.nn.functional.linear(X, block.up.weight, block.up.bias))
        block.up.weight.data, block.up.bias = kept[0], kept[2]
        block.up.weight.copy_(kept[1])
        block.up.bias.copy_(kept[3])
    assert not torch.equal(before, torch.zeros_like(before)) and torch.equal(block.up(X), before)


def test_an_attribute_is_mirrored(block):
    before = block.norm(X)
    block.norm.eps = 1.0
    assert torch.equal(block.norm(X), torch.nn.functional.layer_norm(X, (16,), block.norm.weight, block.norm.bias, 1.0))
    block.norm.eps = 1e-5
    assert torch.equal(block.norm(X), before)


def test_a_changed_copy_leaves_the_module_as_it_is(block):
    before = block.up(X)
    assert copy.deepcopy(block.up).double()(X.double()).dtype == torch.float64
    assert torch.equal(block.up(X), before)


def test_hooks_inside_see_and_replace(block):
    seen = []
    handles = [block.norm.register_forward_hook(lambda module, args, output: seen.append((args[0], output))),
               block.act.register_forward_pre_hook(lambda module, args: (args[0] * 0,)),
               block.register_forward_hook(lambda module, args, kwargs, output: output + 1, with_kwargs=True)]  # fmt: skip
    try:
        made = block(X, torch.tensor(0.5))
    finally:
        for handle in handles:
            handle.remove()
    assert torch.equal(seen[0][0], X) and torch.equal(seen[0][1], block.norm(X))
    assert torch.allclose(made, X + 0.5 * block.down.bias + 1, atol=1e-6)


def test_torch_functions_that_a_module_calls_can_be_watched_and_varied(block):
    calls = watched(lambda: block(X, torch.tensor(0.5)))
    assert [call.name for call in calls if call.name in ("layer_norm", "linear", "gelu")] == ["layer_norm", "linear", "gelu", "linear"]
    assert any(call.site[0].endswith("sides.py") for call in calls)

    def instead(function, x, **kwargs):
        return torch.nn.functional.silu(x)

    silu = with_variant(lambda: block(X, torch.tensor(0.5)), lambda index, name, site: instead if name == "gelu" else None)
    wanted = X + block.down(torch.nn.functional.silu(block.up(block.norm(X)))) * 0.5
    assert torch.allclose(silu, wanted, atol=1e-6) and not torch.allclose(silu, block(X, torch.tensor(0.5)), atol=1e-6)


def test_code_cannot_be_sent_and_that_is_said(block):
    block.norm.forward = lambda x: x
    try:
        with pytest.raises(TypeError, match="a function cannot be sent to another interpreter"):
            block.norm(X)
    finally:
        del vars(block.norm)["forward"]
    assert block.norm(X).shape == X.shape


def test_what_the_module_raises_is_raised_here(block):
    with pytest.raises(RuntimeError, match="shape"):
        block.up(X[..., :3])
    assert block.up(X).shape == (2, 5, 32)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float8_e4m3fn, torch.bool, torch.int8, torch.complex64])
def test_tensors_of_any_type_arrive_as_they_were_sent(side, dtype):
    sent = torch.tensor([[0.0, 1.0, 2.0]]).to(dtype)
    for value in (sent, sent.t(), sent[:0]):
        back = side.session.ask("item", ({"key": value}, "key"))
        assert back.dtype == dtype and back.shape == value.shape and torch.equal(back.cpu().to(torch.complex64), value.to(torch.complex64))


def test_autocast_around_a_call_holds_there_too(block):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert block.up(X).dtype == torch.bfloat16
    assert block.up(X).dtype == torch.float32
