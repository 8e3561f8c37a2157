"""Faults of several ranks, emulated in one process, and of step caches and offloading."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from whydiff.faults.catalogue.positions import rotary_module
from whydiff.faults.fault import Host, Trial, fault
from whydiff.faults.rewriting import edit
from whydiff.faults.surgery import at_each_run, attend_through, attentions, block_linears, networks, submodules, wrap


def _attending(host: Host, joint: bool | None = None) -> list[nn.Module]:
    """Modules whose attention is that of the image tokens among themselves (and with the text, where it is joint)."""
    network = networks(host)[0]
    if host.kind == "flux_port":
        return [*network.double_blocks, *network.single_blocks]
    found = attentions(host, joint)
    return [m for n, m in found.items() if not n.endswith("attn2")]


@fault("sp-padding-unmasked", "flux", "flux_port", "sd3", "wan", "qwen", "ltx")
def _(trial):
    """The sequence is padded with zeros to a multiple of the ranks, and the padding is attended to."""
    ranks = trial.draw.choice([3, 5, 7])

    def padded(sdpa, query, key, value, mask=None, **options):
        missing = -query.shape[-2] % ranks
        q, k, v = (F.pad(x, (0, 0, 0, missing)) for x in (query, key, value))
        return sdpa(q, k, v, **options)[..., : query.shape[-2], :]

    for module in _attending(trial.faulty):
        attend_through(module, padded)


@fault("parallel-config-not-propagated", "flux", "flux_port", "sd3", "wan", "qwen")
def _(trial):
    """The last blocks were built without the parallel settings: each rank's tokens attend only to those of the same rank."""
    ranks = trial.draw.choice([2, 4])
    modules = _attending(trial.faulty)
    network = networks(trial.faulty)[0]
    if trial.faulty.kind == "flux_port":
        modules = list(network.single_blocks)
    elif trial.faulty.kind == "flux":
        modules = [block.attn for block in network.single_transformer_blocks]
    else:
        modules = modules[trial.draw.randrange(len(modules)):]

    def local(sdpa, query, key, value, mask=None, **options):
        shards = (x.tensor_split(ranks, -2) for x in (query, key, value))
        return torch.cat([sdpa(*shard, **options) for shard in zip(*shards, strict=True)], -2)

    for module in modules:
        attend_through(module, local)


@fault("tp-norm-local-statistics", "wan", "wan_i2v", "ltx")
def _(trial):
    """Each rank normalises its channels with their own root mean square, not with that of all heads."""
    ranks = 2 if trial.faulty.kind != "ltx" else trial.draw.choice([2, 4])

    def local(forward, x):
        parts = x.chunk(ranks, -1)
        size = x.pow(2).mean(-1, keepdim=True).sqrt()
        return torch.cat([part * size / part.pow(2).mean(-1, keepdim=True).sqrt() for part in parts], -1) * _gain(forward, x)

    for network in networks(trial.faulty):
        for module in submodules(network, having="norm_q").values():
            for norm in (module.norm_q, module.norm_k):
                wrap(norm, "forward", local)


def _gain(forward, x: torch.Tensor) -> torch.Tensor:
    """What a norm multiplies its input with, per channel and token."""
    return forward(x) / x


@fault("accelerator-on-one-side", "flux", "sd15", "sd3", "ltx", "sdxl")
def _(trial):
    _skip_calls(trial.faulty, every=trial.draw.choice([2, 3]), fresh_each_run=True)


@fault("cache-spent-state", "flux", "sd15", "sd3", "ltx")
def _(trial):
    """Both sides skip calls; one side's counter is used up after its first run."""
    every = trial.draw.choice([2, 3])
    _skip_calls(trial.faulty, every, fresh_each_run=False)
    _skip_calls(trial.healthy, every, fresh_each_run=True)


def _skip_calls(host: Host, every: int, fresh_each_run: bool) -> None:
    """Every so often the network gives what it gave at the step before."""
    state: dict = {"call": 0}
    if fresh_each_run:
        at_each_run(host, lambda: state.update(call=0))

    def cached(forward, *args, **kwargs):
        call = state["call"]
        state["call"] += 1
        if call % every == every - 1 and call < host.call["num_inference_steps"]:
            return (state["output"].clone(),)
        output = forward(*args, **kwargs)
        state["output"] = (output[0] if isinstance(output, tuple) else output.sample).clone()
        return output

    wrap(networks(host)[0], "forward", cached)


@fault("offload-stream-race", "flux", "sd15", "sd3")
def _(trial):
    """At one call of each run a layer still holds what the layer before it had in that buffer; which call is chance."""
    layers = [m for m in attentions(trial.faulty).values() if m.to_q.weight.shape == m.to_out[0].weight.shape] if (
        trial.faulty.kind == "sd15") else list(attentions(trial.faulty).values())
    late = trial.draw.choice(layers).to_k
    early = next(m.to_q for m in layers if m.to_k is late)
    if early.weight.shape != late.weight.shape:
        early, late = late, next(m.to_v for m in layers if m.to_k is late)
    # Time, and not the call, decides who wins a race: the stream goes on from run to run.
    race, steps, state = trial.draw, trial.faulty.call["num_inference_steps"], {"call": 0, "hit": 0}
    at_each_run(trial.faulty, lambda: state.update(call=0, hit=race.randrange(steps)))

    def around(forward, x):
        state["call"] += 1
        return F.linear(x, early.weight, late.bias) if state["call"] - 1 == state["hit"] else forward(x)

    wrap(late, "forward", around)


@fault("sp-condition-sharded", "flux", "wan")
def _(trial):
    """Each rank counts positions from its own first token."""
    ranks = trial.draw.choice([2, 4])

    def local(table: torch.Tensor, axis: int) -> torch.Tensor:
        lengths = [part.shape[axis] for part in table.tensor_split(ranks, axis)]
        return torch.cat([table.narrow(axis, 0, length) for length in lengths], axis)

    for network in networks(trial.faulty):
        module, layout = rotary_module(network)
        axis = 1 if layout == "wan" else 0
        wrap(module, "forward", lambda forward, x, _axis=axis: tuple(local(table, _axis) for table in forward(x)))


@fault("sp-wrong-axis", "flux", "wan")
def _(trial):
    """The table is split among ranks along the width, the tokens along the sequence."""
    ranks = 2

    def flux(forward, ids):
        height, width = (int(n) + 1 for n in ids[:, 1:].amax(0))
        text = len(ids) - height * width
        return tuple(torch.cat([t[:text], sharded(t[text:].unflatten(0, (height, width)))]) for t in forward(ids))

    def wan(forward, x):
        grid = [n // p for n, p in zip(x.shape[2:], (1, 2, 2), strict=True)]
        return tuple(sharded(t[0].unflatten(0, (grid[0] * grid[1], grid[2])))[None] for t in forward(x))

    def sharded(table: torch.Tensor) -> torch.Tensor:
        return torch.cat([part.flatten(0, 1) for part in table.chunk(ranks, 1)])

    for network in networks(trial.faulty):
        module, layout = rotary_module(network)
        wrap(module, "forward", wan if layout == "wan" else flux)


@fault("sp-concat-order", "flux", "sd3")
def _(trial):
    for module in attentions(trial.faulty, joint=True).values():
        if trial.faulty.kind == "flux":
            changes = [(f"torch.cat([encoder_{n}, {n}], dim=1)", f"torch.cat([{n}, encoder_{n}], dim=1)") for n in ("query", "key", "value")]
        else:
            other = "encoder_hidden_states_{}_proj"
            changes = [(f"torch.cat([{n}, {other.format(n)}], dim=2)", f"torch.cat([{other.format(n)}, {n}], dim=2)")
                       for n in ("query", "key", "value")]  # fmt: skip
        edit(module.processor, "__call__", *changes)


@fault("kv-cache-not-refreshed", "flux", "sd3")
def _(trial):
    """Keys and values of the text are kept from the first step, although the blocks change the text at each step."""
    joint = list(attentions(trial.faulty, joint=True).values())
    first = trial.draw.randrange(len(joint))
    for module in joint[first:]:
        for layer in (module.add_k_proj, module.add_v_proj):
            _kept(trial, layer)


def _kept(trial: Trial, layer: nn.Module) -> None:
    kept: dict = {}
    at_each_run(trial.faulty, kept.clear)

    def around(forward, x):
        if "value" not in kept:
            kept["value"] = forward(x)
        return kept["value"]

    wrap(layer, "forward", around)


@fault("ring-double-counts-replicated-text", "flux", "sd3", "qwen")
def _(trial):
    """The text is on every rank, and its keys go round the ring with the others: they count once per rank."""
    ranks = trial.draw.choice([2, 4, 8])
    text_first = trial.faulty.kind != "sd3"
    for module in attentions(trial.faulty, joint=True).values():
        length: dict = {}

        def ring(sdpa, query, key, value, mask=None, _length=length, **options):
            text = slice(0, _length["text"]) if text_first else slice(key.shape[-2] - _length["text"], None)
            key, value = (torch.cat([x] + [x[..., text, :]] * (ranks - 1), -2) for x in (key, value))
            return sdpa(query, key, value, **options)

        def note(forward, *args, _length=length, **kwargs):
            _length["text"] = kwargs["encoder_hidden_states"].shape[1]
            return forward(*args, **kwargs)

        attend_through(module, ring)
        wrap(module, "forward", note)


@fault("rng-not-synchronised", "flux", "flux_port", "sd15", "sd3", "wan")
def _(trial):
    """Rank r draws with seed + r, and each rank's part of the latents is its own."""
    ranks = trial.draw.choice([2, 4])

    def merged(draw, shape, seed: int):
        whole = [draw(torch.Generator().manual_seed(seed + rank)) for rank in range(ranks)]
        axis = len(shape) - 2 if shape[-2] >= ranks else len(shape) - 1
        return torch.cat([noise.tensor_split(ranks, axis)[rank] for rank, noise in enumerate(whole)], axis)

    def randn_tensor(shape, generator=None, device=None, dtype=None, layout=None):
        return merged(lambda own: torch.randn(shape, generator=own, dtype=dtype), shape, generator.initial_seed())

    def draw_noise(shape, seed, device, dtype):
        return merged(lambda own: torch.randn(shape, generator=own, dtype=dtype), shape, seed)

    if trial.faulty.kind == "flux_port":
        edit(trial.faulty.pipeline, "start", draw_noise=draw_noise)
    else:
        edit(trial.faulty.pipeline, "prepare_latents", randn_tensor=randn_tensor)


@fault("offload-corrupts-weights", "flux", "flux_port", "sd15", "sd3", "wan")
def _(trial):
    """When the first picture is done, memory is short, and a part of one tensor does not come back."""
    weight = trial.draw.choice(block_linears(trial.faulty)).weight
    lost = trial.draw.choice([0.25, 0.5, 1.0])

    def decode(original, *args, **kwargs):
        result = original(*args, **kwargs)
        with torch.no_grad():
            weight[: max(1, int(len(weight) * lost))] = 0
        return result

    wrap(trial.faulty.pipeline.vae, "decode", decode)
