"""Numbers of frames that two sides make of one request."""

import torch
from recorded_lab import finding, lab_of, normal, trace

from whydiff.causes import frames, size
from whydiff.measure.relations import find_relation


def sides(a, b, settings=({"num_frames": 8},) * 2):
    return lab_of(*(trace({"initial_latents": normal(1, 4, t, 4, 4), "image": torch.rand(1, 4 * t - 3, 8, 8, 3)}, s)
                    for t, s in zip((a, b), settings, strict=True)))  # fmt: skip


def test_one_request_and_two_numbers_of_latent_frames():
    found = size.explain(sides(3, 2))
    assert [c.id for c in found] == ["frame-count-rule"]
    assert (found[0].relation["reference"], found[0].relation["candidate"]) == (3, 2)
    assert frames.explain_rule(sides(3, 7)) is None
    assert frames.explain_rule(sides(3, 2, ({"num_frames": 9}, {"num_frames": 5}))) is None


def decoded(a, b, t=3):
    lab = lab_of(*(trace({"vae_latents": normal(1, 4, t, 4, 4), "decoded": normal(1, 3, n, 8, 8)}) for n in (a, b)))
    return [(c.id, c.departs) for c in frames.explain_decoded(finding(lab, "decoded"), lab)]


def test_a_decoder_that_upsamples_the_first_frame_too():
    assert decoded(9, 12) == [("temporal-upsample-first-frame", "candidate")]
    assert decoded(12, 9) == [("temporal-upsample-first-frame", "reference")]
    assert decoded(9, 11) == []


def test_a_sequence_with_a_prefix_is_shifted():
    x = normal(1, 16, 8)
    y = torch.cat([normal(1, 2, 8, seed=5), x[:, :-2]], 1)
    relation = find_relation(x, y)
    assert (relation.kind, relation.parameters) == ("shifted", {"axis": 1, "by": 2})
