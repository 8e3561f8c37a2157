"""A side that computes coarsely must not excuse itself, and a patched side is not the same side."""

import torch

from whydiff.evidence.floor import loud, quieten
from whydiff.evidence.surroundings.fingerprint import code_fingerprint
from whydiff.evidence.traces.trace import Event, Trace
from whydiff.places import Place

PLACE = Place("noise_pred", 0)
ULP = torch.finfo(torch.float32).eps


def recorded(dtype=torch.float32):
    made = Trace()
    made.add(Event(PLACE, torch.ones(4, dtype=dtype)))
    return made


def test_a_float32_stage_that_moves_as_16_bit_would_is_loud_and_a_healthy_or_a_declared_one_is_not():
    assert loud({PLACE: 30_000 * ULP}, recorded())
    assert not loud({PLACE: 140 * ULP}, recorded())
    assert not loud({PLACE: 30_000 * ULP}, recorded(torch.bfloat16))


def test_the_far_quieter_sides_floor_counts_and_a_similar_one_changes_nothing():
    floors = {PLACE: 1e-2}
    assert quieten(floors, {PLACE: 1e-6}) and floors == {PLACE: 1e-6}
    floors = {PLACE: 1e-6}
    assert not quieten(floors, {PLACE: 5e-7}) and floors == {PLACE: 1e-6}


class Sampler:
    def __call__(self):
        return 1


def test_a_class_patched_under_its_own_name_is_other_code():
    patched = type("Sampler", (Sampler,), {"__call__": lambda self: 2, "__qualname__": Sampler.__qualname__, "__module__": Sampler.__module__})
    same = type("Sampler", (Sampler,), {"__qualname__": Sampler.__qualname__, "__module__": Sampler.__module__})
    assert code_fingerprint(patched()) != code_fingerprint(Sampler())
    assert code_fingerprint(same()) == code_fingerprint(Sampler())
