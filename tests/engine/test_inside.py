"""Whatever is wrong with one module, that very module is the place: leaves, blocks, and code between modules."""

import random

import pytest
import torch

from whydiff import tap
from whydiff.engine.api import live_case
from whydiff.engine.inside import inside
from whydiff.engine.lab import Lab
from whydiff.engine.rows import added_rows
from whydiff.engine.walk import findings

CALL = {"prompt": "a red circle", "height": 48, "width": 64, "num_inference_steps": 1, "max_sequence_length": 16, "seed": 0}
CHANGES = [lambda t: torch.cat([1.03 * t[..., :2], t[..., 2:]], -1), lambda t: t.roll(1, -1), lambda t: t.bfloat16().to(t.dtype),
           lambda t: t.tanh(), lambda t: -t, lambda t: t.index_fill(-1, torch.tensor([t.shape[-1] // 2]), 0.0)]  # fmt: skip


@pytest.fixture(scope="module")
def reference(sides):
    return sides.reference()


def culprits(reference, candidate, call=CALL):
    lab = Lab(live_case(reference, candidate, call, None, ""))
    lab.load()
    lab.record_both()
    found = findings(lab, added_rows(lab, lab.forced({})), lab.forced({}))
    return [c.name for c in inside(lab, found[0].place.step, {}, found[0].place.stage)[0]] if found else None


def changed(output, change):
    if isinstance(output, torch.Tensor):
        return change(output)
    if isinstance(output, tuple):
        return (change(output[0]), *output[1:])
    key = next(iter(output))
    output[key] = change(output[key])
    return output


@pytest.mark.parametrize("component", ["transformer", "transformer", "text_encoder", "text_encoder_2", "vae"])
def test_a_module_changed_at_random_is_found(sides, reference, component, request):
    draw = random.Random(request.node.name)
    found = None
    while found is None:  # a module that nothing calls, or whose output nothing uses, makes no difference
        candidate = sides.reference()
        modules = [(n, m) for n, m in candidate.components[component].named_modules() if n and not isinstance(m, torch.nn.ModuleList)]
        name, module = draw.choice(modules)
        forward, change = module.forward, draw.choice(CHANGES)
        module.forward = lambda *a, _f=forward, _c=change, **k: changed(_f(*a, **k), _c)
        found = culprits(reference, candidate)
    assert found[0] == f"{component}/{name}"


def test_code_between_modules_is_the_module_around_them(sides, reference):
    candidate = sides.reference()
    block = candidate.transformer.transformer_blocks[1]
    block.attn.register_forward_pre_hook(lambda m, a, k: (a, k | {"hidden_states": 1.01 * k["hidden_states"]}), with_kwargs=True)
    feed = block.ff.forward
    block.ff.forward = lambda x: feed(x) + 0.1 * x  # a residual of its own
    assert "transformer/transformer_blocks.1.ff" in culprits(reference, candidate)


def test_several_modules_are_all_found_and_what_comes_after_them_is_not(sides, reference):
    candidate = sides.reference()
    blocks = candidate.transformer.single_transformer_blocks
    for i in (0, 2):
        blocks[i].proj_out.weight.data *= 1.05
    assert culprits(reference, candidate) == [f"transformer/single_transformer_blocks.{i}.proj_out" for i in (0, 2)]


def test_equal_sides_have_no_culprit(sides, reference):
    lab = Lab(live_case(reference, sides.reference(), CALL, None, ""))
    lab.load()
    lab.record_both()
    assert [inside(lab, 0, {}, stage)[0] for stage in ("model_forward", "prompt_encoding", "vae")] == [[], [], []]


class Decoding:
    """A causal video decoder: frame after frame, with caches of features that modules pass on in a list and count through."""

    def __init__(self):
        from diffusers import AutoencoderKLWan

        torch.manual_seed(0)
        vae = AutoencoderKLWan(base_dim=8, z_dim=4, dim_mult=[1, 2], num_res_blocks=1, temperal_downsample=[True],
                               latents_mean=[0.0] * 4, latents_std=[1.0] * 4)  # fmt: skip
        self.components = {"vae": vae.eval()}

    def __call__(self, seed):
        latents = tap("vae_latents", torch.randn(1, 4, 3, 4, 5, generator=torch.Generator().manual_seed(seed)))
        with torch.no_grad():
            decoded = tap("decoded", self.components["vae"].decode(latents, return_dict=False)[0])
        return decoded.permute(0, 2, 3, 4, 1) / 2 + 0.5


@pytest.mark.parametrize("name", ["mid_block.resnets.0.nonlinearity", "up_blocks.0.resnets.1.conv1", "up_blocks.0.upsamplers.0.time_conv",
                                  "up_blocks.1"])
def test_caches_passed_from_frame_to_frame_hide_no_module(name):
    candidate = Decoding()
    module = candidate.components["vae"].decoder.get_submodule(name)
    forward = module.forward
    module.forward = lambda *a, **k: forward(*a, **k).flip(1)
    assert set(culprits(Decoding(), candidate, {"seed": 0})) == {f"vae/decoder.{name}"}
