"""The native port, and copies of it under random names in another order, are paired with diffusers' Flux without a mistake."""

import collections

import pytest
import torch
from shuffled import shuffled

from whydiff.evidence.recording.functions import functions_of
from whydiff.measure.pairing import Output, Sought, pair_modules, with_functions
from whydiff.measure.pairing.outputs import difference

CALL = {"prompt": "a red circle", "height": 48, "width": 64, "num_inference_steps": 1, "max_sequence_length": 16}
COMPONENTS = ("transformer", "text_encoder", "text_encoder_2", "vae")
SEEDS = range(5)


@pytest.fixture(scope="module")
def both(sides):
    return sides.reference(), sides.port()


def outputs(pipeline, component, look=None, **call) -> list[Output]:
    """What every module of a component returned in one run, in the order in which they ended; `look` sees what functions return."""
    found, count, handles = [], collections.Counter(), []

    def hook(name):
        def keep(_module, _args, output):
            tensors = output.values() if isinstance(output, dict) else output if isinstance(output, (tuple, list)) else [output]
            for index, tensor in enumerate(tensors):
                if isinstance(tensor, torch.Tensor):
                    count[name, index] += 1
                    words = [f"output {index}"] * (index > 0) + [f"call {count[name, index]}"] * (count[name, index] > 1)
                    found.append(Output(" ".join([name, *words]), tensor.detach().clone()))

        return keep

    for name, module in getattr(pipeline, component).named_modules():
        if name:
            handles.append(module.register_forward_hook(hook(f"{component}/{name}")))
    try:
        with torch.no_grad(), functions_of({component: getattr(pipeline, component)}, look):
            pipeline(**CALL, **call)
    finally:
        for handle in handles:
            handle.remove()
    return found


def reference_outputs(reference, component, look=None):
    return outputs(reference, component, look, generator=torch.Generator().manual_seed(0))


def table(component, pipeline) -> set[tuple[str, str]]:
    """The counterparts that the port's own converter knows: (diffusers' module, port's module)."""
    from native_flux.convert import TABLES

    return {(source, native) for native, sources in TABLES[component](dict(getattr(pipeline, component).config.to_dict()
            if hasattr(getattr(pipeline, component).config, "to_dict") else getattr(pipeline, component).config)).items()
            for source in sources}  # fmt: skip


def mistakes(pairing, component, pipeline, origin) -> list:
    """Pairs of parameters that the converter does not have."""
    known = table(component, pipeline)

    def split(name):
        return name.split("/", 1)[-1].removeprefix("text_model.").rpartition(".")

    made_of = [(split(p.reference), split(origin.get(p.candidate.split("/", 1)[1], p.candidate.split("/", 1)[1])), p)
               for p in pairing.parameters.pairs]  # fmt: skip
    return [p for a, b, p in made_of if (a[0], b[0]) not in known or a[2] != b[2]]


def cut(tensor, runs, height_like):
    """The part of an output that a pair is about, for each axis that it could be of."""
    if runs is None:
        return [tensor]
    index = torch.cat([torch.arange(*run) for run in runs])
    return [tensor.index_select(axis, index) for axis in range(tensor.dim()) if tensor.shape[axis] > int(index.max())]


def apart(pair, mine, theirs) -> float:
    """How far two tensors differ that a pair takes for counterparts; reordered features are compared as sets of values."""
    a, b = mine[pair.reference], theirs[pair.candidate]
    options = [(x, y) for x in cut(a, pair.part_reference, b) for y in cut(b, pair.part_candidate, a) if x.numel() == y.numel()]
    sets = [(x.flatten().sort().values, y.flatten().sort().values) for x, y in options]
    return min(difference(x, y) for x, y in [*options, *sets])


def missed(pairing, mine, theirs) -> list[str]:
    """Outputs of the reference that the candidate has too, and that are in no pair."""
    return [name for name in pairing.unpaired_reference
            if any(t.numel() == mine[name].numel() and difference(mine[name], t) < 1e-3 for t in theirs.values())]  # fmt: skip


def named(events):
    return {event.name: event.tensor for event in events}


def check(both, component, candidate, origin, least=0.95):
    reference, port = both
    own = getattr(port, component)
    setattr(port, component, candidate)
    try:
        mine = reference_outputs(reference, component)
        made = [Sought(mine)]
        theirs = outputs(port, component, made[0].look, seed=0)
        made.append(Sought(theirs))
        reference_outputs(reference, component, made[1].look)
    finally:
        setattr(port, component, own)
    pairing = pair_modules({component: getattr(reference, component)}, {component: candidate}, mine, theirs)
    assert mistakes(pairing, component, reference, origin) == []
    assert [p for p in pairing.pairs if apart(p, named(mine), named(theirs)) > 1e-3] == []
    assert pairing.parameters.share == 1.0
    found = len({p.reference for p in pairing.pairs} | set(pairing.aliases_reference))
    assert found >= least * (found + len(missed(pairing, named(mine), named(theirs))))
    every = with_functions(pairing, made[0].found, made[1].found)
    for root, events, unpaired in ((getattr(reference, component), mine, every.unpaired_reference), (candidate, theirs, every.unpaired_candidate)):
        leaves = [f"{component}/{name}" for name, inner in root.named_modules() if not list(inner.children())]
        own = [event.name for event in events if event.module in leaves]
        assert len(set(own) & set(unpaired)) <= (1 - least) * len(own)
    return pairing, mine, theirs


@pytest.mark.parametrize("component", COMPONENTS)
def test_all_of_the_port_is_paired_without_a_mistake_and_agrees(both, component):
    pairing, *_ = check(both, component, getattr(both[1], component), {})
    assert max(p.difference for p in pairing.pairs) < 1e-5
    assert pairing.compared()["parameters_unpaired"] == []


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("component", COMPONENTS)
def test_random_names_orders_splits_and_layouts_are_no_obstacle(both, component, seed):
    twin, origin = shuffled(getattr(both[1], component), seed)
    check(both, component, twin, origin)


def test_parameters_that_are_all_ones_and_zeros_are_told_apart_by_what_their_modules_do(sides):
    reference, port = sides.reference(), sides.port()
    for module in [*reference.transformer.modules(), *port.transformer.modules()]:
        if "norm" in type(module).__name__.lower() and getattr(module, "weight", None) is not None:
            module.weight.data.fill_(1)
        if isinstance(module, torch.nn.Linear):
            module.bias.data.zero_()
    check((reference, port), "transformer", *shuffled(port.transformer, 0))


def eps(module):
    next(m for m in module.modules() if isinstance(m, torch.nn.LayerNorm)).eps = 0.5


def heavier(module):
    next(p for p in module.parameters() if p.shape == (384, 96) or p.shape == (96, 384)).data.mul_(1.5)


def in_bfloat16(module):
    def cast(value):
        return value.bfloat16() if isinstance(value, torch.Tensor) and value.is_floating_point() else value

    module.to(torch.bfloat16)
    module.register_forward_pre_hook(lambda _m, args: tuple(map(cast, args)))
    module.register_forward_hook(lambda _m, _args, out: out.float())


@pytest.mark.parametrize("damage", [eps, heavier, in_bfloat16])
def test_pairs_stay_right_after_a_defect_has_changed_everything_behind_it(both, damage):
    reference, port = both
    healthy, origin = shuffled(port.transformer, 1)
    _, mine, theirs = check(both, "transformer", healthy, origin)
    damaged, _ = shuffled(port.transformer, 1)
    damage(damaged)
    own, port.transformer = port.transformer, damaged
    try:
        changed = outputs(port, "transformer", seed=0)
    finally:
        port.transformer = own
    pairing = pair_modules({"transformer": reference.transformer}, {"transformer": damaged}, mine, changed)
    assert mistakes(pairing, "transformer", reference, origin) == []
    assert [p for p in pairing.pairs if apart(p, named(mine), named(theirs)) > 1e-3] == []
    found = len({p.reference for p in pairing.pairs} | set(pairing.aliases_reference))
    assert found >= 0.95 * (found + len(missed(pairing, named(mine), named(theirs))))


def test_what_has_no_counterpart_is_counted(both):
    reference, port = both
    twin, _ = shuffled(port.text_encoder, 0)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(7))
    own, port.text_encoder = port.text_encoder, twin
    try:
        theirs = outputs(port, "text_encoder", seed=0)
    finally:
        port.text_encoder = own
    mine = reference_outputs(reference, "text_encoder")
    told = pair_modules({"text_encoder": reference.text_encoder}, {"text_encoder": twin}, mine, theirs).compared()
    parameters = [*reference.text_encoder.parameters(), *twin.parameters()]
    assert told["parameters"] == 0 and len(told["parameters_unpaired"]) == len(parameters)
