"""Recordings whose names, layouts or ranks differ are brought to the same places before they are compared."""

import pathlib

import pytest
import torch

from whydiff.engine.study import study
from whydiff.errors import Trouble
from whydiff.evidence.case import make_case
from whydiff.evidence.traces.trace import Event, Trace
from whydiff.places import Place

DUMPS = pathlib.Path(__file__).parents[1] / "evidence" / "dumps"


def network(x, wrong=False):
    """Outputs of the modules of two blocks, by name, and the prediction."""
    weights, seen = torch.Generator().manual_seed(3), {}
    for i in range(2):
        q, k = (x @ torch.randn(8, 8, generator=weights) for _ in range(2))
        inner = (torch.relu(q * k) if wrong and i == 1 else torch.tanh(q * k)) @ torch.randn(8, 8, generator=weights)
        x = 0.5 * x + inner
        seen |= {f"transformer/blocks.{i}.q": q, f"transformer/blocks.{i}.k": k, f"transformer/blocks.{i}.mix": inner, f"transformer/blocks.{i}": x}
    return seen, x


def recorded(folder, steps=2, rename=None, wrong=False, lost=()):
    """A trace of a loop, with the modules of every step under the names that `rename` gives, but for those that are `lost`."""
    trace = Trace(floor={"noise_pred_text": 1e-7, "latents": 1e-7})
    latents = torch.randn(1, 10, 8, generator=torch.Generator().manual_seed(0))
    events = [(Place("initial_noise"), latents)]
    for i in range(steps):
        seen, noise_pred = network(latents, wrong)
        events += [(Place("latent_model_input", i), latents)]
        events += [(Place("modules", i, module=(rename or {}).get(name, name)), tensor) for name, tensor in seen.items() if name not in lost]
        latents = latents - 0.1 * noise_pred
        events += [(Place("noise_pred_text", i), noise_pred), (Place("noise_pred", i), noise_pred), (Place("latents", i), latents)]
    for place, tensor in events:
        trace.add(Event(place, tensor))
    trace.save(folder)
    return trace


def case(folder, **keys):
    made = make_case({"reference": {"trace": "reference"}, "candidate": {"trace": "candidate"}} | keys)
    made.path = str(folder / "case.yaml")
    return made


OTHER = {f"transformer/blocks.{i}{part}": f"net.layer{i}{own}" for i in range(2)
         for part, own in (("", ""), (".q", ".query"), (".k", ".key"), (".mix", ".ff"))}  # fmt: skip


def test_a_module_that_departs_is_found_under_its_own_name(tmp_path):
    recorded(tmp_path / "reference")
    recorded(tmp_path / "candidate", rename=OTHER, wrong=True)
    verdict = study(case(tmp_path)).verdict
    (entry,) = verdict.unexplained
    assert entry["module"] == "net.layer1.ff" and entry["module_reference"] == "transformer/blocks.1.mix" and entry["step"] == 0
    assert any("were paired" in note for note in verdict.notes)
    assert not verdict.to_dict()["compared"]["unpaired_candidate"]


def test_healthy_recordings_under_other_names_agree(tmp_path):
    recorded(tmp_path / "reference")
    recorded(tmp_path / "candidate", rename=OTHER)
    assert study(case(tmp_path)).verdict.verdict == "same"


def test_two_tensors_that_only_their_place_makes_a_pair_are_no_difference_where_nothing_else_is(tmp_path):
    """Each side lacks another tensor of one shape at the same place: what is left there is no pair of counterparts."""
    recorded(tmp_path / "reference", lost=("transformer/blocks.1.q",))
    recorded(tmp_path / "candidate", rename=OTHER, lost=("transformer/blocks.1.k",))
    verdict = study(case(tmp_path)).verdict
    assert verdict.verdict == "same", str(verdict)
    assert any("transformer/blocks.1.k" in name for name in verdict.compared["unpaired_reference"])
    assert any("net.layer1.query" in name for name in verdict.compared["unpaired_candidate"])


def test_names_that_the_case_gives_come_first_and_must_exist(tmp_path):
    recorded(tmp_path / "reference")
    recorded(tmp_path / "candidate", rename=OTHER)
    crossed = {"transformer/blocks.0.q": "net.layer0.key", "transformer/blocks.0.k": "net.layer0.query"}
    found = study(case(tmp_path, names=crossed))
    assert found.lab.renamed[Place("modules", 1, module="transformer/blocks.0.q")] == "net.layer0.key"
    assert {row.place.module for row in found.rows if row.stands_out} == set(crossed)
    with pytest.raises(Trouble, match="Did you mean 'net.layer0.key'"):
        study(case(tmp_path, names={"transformer/blocks.0.q": "net.layer0.keys"}))


def by_rank(folder, ranks=4, held=None):
    """The same run by several ranks: activations are sharded along the tokens, three to a rank and one to the last."""
    whole = recorded(folder / "whole")
    for rank in range(ranks):
        trace = Trace()
        for place, tensor in ((p, e.tensor) for p, e in whole.events.items()):
            if place.probe in ("modules", "latent_model_input"):
                parts = list(tensor.split(3, 1))
                parts[-1] = torch.cat([parts[-1], torch.zeros(1, 2, 8)], 1)
                tensor = parts[(held or {}).get((rank, place.module), rank)]
            trace.add(Event(place, tensor))
        trace.save(folder / "candidate" / f"rank-{rank}")


def test_what_ranks_share_out_is_put_together(tmp_path):
    recorded(tmp_path / "reference")
    by_rank(tmp_path)
    verdict = study(case(tmp_path)).verdict
    assert verdict.verdict == "same", str(verdict)
    assert any("sharded along axis 1 over 4 ranks, 2 of padding" in note for note in verdict.notes)


def test_a_shard_that_no_rank_holds_is_the_cause(tmp_path):
    recorded(tmp_path / "reference")
    by_rank(tmp_path, held={(2, "transformer/blocks.1.q"): 1})
    trace = Trace.load(tmp_path / "candidate" / "rank-0")
    for rank in range(4):  # what follows differs on all ranks
        folder = tmp_path / "candidate" / f"rank-{rank}"
        trace = Trace.load(folder)
        for place, event in trace.events.items():
            if place.probe in ("noise_pred", "noise_pred_text", "latents"):
                event.tensor = event.tensor + 0.1
        for file in folder.iterdir():
            file.unlink()
        trace.save(folder)
    verdict = study(case(tmp_path)).verdict
    (cause,) = verdict.causes
    assert cause.id == "shard-missing" and cause.stage == "caching_parallel" and cause.module == "transformer/blocks.1.q"
    assert cause.relation["missing"] == [2] and cause.relation["repeated"] == [1] and cause.departs == "candidate"


def test_another_tools_dump_is_named_as_a_trace(tmp_path):
    dumps = {"reference": {"trace": str(DUMPS / "sglang")}, "candidate": {"trace": str(DUMPS / "sglang_two_ranks")}}
    verdict = study(make_case(dumps)).verdict
    assert verdict.verdict in ("same", "within_noise"), str(verdict)
    assert any("over 2 ranks" in note for note in verdict.notes)
