"""Which draw a side's noise is, found again from the tensor and the seeds that were given."""

import torch
from recorded_lab import finding, lab_of, normal, trace

from whydiff.causes.noise import draws
from whydiff.causes.noise import steps as noise_steps
from whydiff.evidence.traces.trace import Event
from whydiff.formulas.noise_stream import find_source
from whydiff.formulas.philox import cuda_randn
from whydiff.places import Place

SHAPE = (1, 4, 8, 8)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def explained(mine, theirs, seed=7):
    lab = lab_of(trace({"initial_noise": mine}, {"seed": seed}), trace({"initial_noise": theirs}, {"seed": seed}))
    return [cause.id for cause in draws.explain(finding(lab, "initial_noise"), lab)]


def frames(seeds, shape=(1, 4, 6, 6)):
    return torch.stack([torch.randn(shape, generator=seeded(s)) for s in seeds], 2)


def test_noise_is_found_after_draws_of_any_size_and_at_any_scale():
    for earlier in (3, 17, 150):
        generator = seeded(987654)
        torch.randn(earlier, generator=generator)
        drawn = 14.6 * torch.randn(SHAPE, generator=generator)
        found = find_source(drawn, [987654])
        assert torch.equal(found.draw(), drawn)
    assert find_source(normal(*SHAPE, seed=11), [987654]) is None


def test_an_earlier_draw_of_another_size_is_named_on_either_side():
    generator = seeded(7)
    torch.randn(1, 3, 5, 5, generator=generator)
    late = torch.randn(SHAPE, generator=generator)
    assert explained(normal(*SHAPE, seed=7), late) == ["rng-consumed-by-earlier-draw"]
    assert explained(late, normal(*SHAPE, seed=7)) == ["rng-consumed-by-earlier-draw"]


def test_frames_seeded_one_by_one_against_one_stream():
    whole = torch.randn(1, 4, 5, 6, 6, generator=seeded(7))
    assert explained(whole, frames(range(7, 12))) == ["per-frame-seed-rule"]
    assert explained(frames(range(7, 12)), frames([7, 11, 15, 19, 23])) == ["per-frame-seed-rule"]


def drawn_apart(*noises):
    """A trace of one request that draws its noise anew several times."""
    made = trace({}, {"seed": 7})
    for i, noise in enumerate(noises):
        made.add(Event(Place("initial_noise", occurrence=i), noise))
    return made


def test_noise_drawn_anew_for_each_frame_is_named_by_the_rule_of_all_frames_and_not_by_the_first_that_differs():
    one = seeded(7)
    stream = [torch.randn(SHAPE, generator=one) for _ in range(4)]
    fresh = [torch.randn(SHAPE, generator=seeded(7 + i)) for i in range(4)]
    later = [torch.randn(SHAPE, generator=seeded(8 + i)) for i in range(4)]
    for mine, theirs, id_ in ((stream, fresh, ["per-frame-seed-rule"]), (fresh, stream, ["per-frame-seed-rule"]), (fresh, later, ["seed"]),
                              (fresh, [*fresh[:3], torch.rand(SHAPE)], [])):  # fmt: skip
        lab = lab_of(drawn_apart(*mine), drawn_apart(*theirs))
        assert [cause.id for cause in draws.explain(finding(lab, "initial_noise"), lab)] == id_


def test_a_generator_that_stands_twice_in_a_list():
    a, b = seeded(7), seeded(8)
    shared = torch.cat([torch.randn(SHAPE, generator=g) for g in (a, b, a, b)])
    own = torch.cat([torch.randn(SHAPE, generator=seeded(s)) for s in (7, 8, 9, 10)])
    assert explained(own, shared) == ["generator-list-shared-object"]


def test_one_generator_for_a_batch_against_one_for_each_item():
    whole = torch.randn(3, 4, 8, 8, generator=seeded(7))
    for seeds in ((7, 8, 9), (7, 42, 3)):
        assert explained(whole, torch.cat([torch.randn(SHAPE, generator=seeded(s)) for s in seeds])) == ["batch-single-generator"]


def test_another_gpu_is_told_by_the_tail():
    first = normal(1, 4, 16, 16, seed=5)
    tail = first.flatten()[300:]
    other = torch.cat([first.flatten()[:300], tail[torch.randperm(len(tail), generator=seeded(0))]]).reshape(first.shape)
    assert explained(first, other) == ["gpu-randn-hardware-dependent"]
    assert explained(first, first.roll(1, 1)) == []  # channels in another order are none


def test_gpus_of_two_sizes_draw_their_own_tail():
    shape = (1, 1, 64, 64)
    mine, theirs = (cuda_randn(shape, 7, max_threads=t) for t in (40 * 1024, 4 * 256))
    assert torch.equal(mine.flatten()[:1024], theirs.flatten()[:1024])
    assert "seed" not in explained(mine, theirs)


def steps(draws, component="generator"):
    places = [Place("step_noise", i) for i in range(len(draws))]
    return trace(dict(zip(places, draws, strict=True)), {"seed": 7}, dict.fromkeys(places, component))


def stream(seed, count, skip=0, shape=SHAPE):
    generator = seeded(seed)
    if skip:
        torch.randn(skip, generator=generator)
    return [torch.randn(shape, generator=generator) for _ in range(count)]


def named(mine, theirs):
    lab = lab_of(mine, theirs)
    return [(cause.id, cause.departs) for cause in noise_steps.explain(finding(lab, "step_noise"), lab)]


def test_step_noise_of_the_global_generator_is_named_on_the_side_that_draws_it():
    request, globally = steps(stream(7, 3, 256)), steps(stream(0, 3), "global generator")
    assert named(request, globally) == [("per-step-noise-global-rng", "candidate")]
    assert named(globally, request) == [("per-step-noise-global-rng", "reference")]
    assert named(request, steps(stream(0, 3))) == [("per-step-noise-global-rng", "candidate")]  # by its seed alone


def test_step_noise_further_on_in_its_stream():
    assert named(steps(stream(7, 3, 256)), steps(stream(7, 3, 512)))[0][0] == "rng-consumed-by-earlier-draw"
    unknown = stream(555, 4)
    assert named(steps(unknown[:3]), steps(unknown[1:]))[0][0] == "rng-consumed-by-earlier-draw"


def test_step_noise_drawn_for_the_batch_or_for_each_item():
    whole = stream(7, 2, shape=(2, 4, 8, 8))
    items = [torch.cat(pair) for pair in zip(stream(7, 2), stream(8, 2), strict=True)]
    assert named(steps(items), steps(whole)) == [("brownian-noise-batch-dependent", "candidate")]


def test_unrelated_noise_has_no_name():
    assert explained(normal(*SHAPE, seed=4711), normal(*SHAPE, seed=4712)) == []
    assert named(steps(stream(4711, 2)), steps(stream(4712, 2))) == []


def test_parts_that_ranks_drew_with_seeds_of_their_own_are_named_on_either_side():
    whole = torch.randn(SHAPE, generator=seeded(7))
    kept = torch.cat([torch.randn(SHAPE, generator=seeded(7 + r))[:, :, 4 * r : 4 * r + 4] for r in range(2)], 2)
    alone = torch.cat([torch.randn(1, 4, 8, 2, generator=seeded(7 + r)) for r in range(4)], 3)
    for parts in (kept, alone):
        assert explained(whole, parts) == ["rng-not-synchronised"] == explained(parts, whole)


def test_parts_that_no_rank_drew_are_not_ranks():
    whole = torch.randn(SHAPE, generator=seeded(7))
    damaged = torch.cat([whole[:, :, :4], normal(1, 4, 4, 8, seed=987123)], 2)
    assert explained(whole, damaged) == []
