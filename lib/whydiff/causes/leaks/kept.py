"""The same request gives another result after another request: what did the run before leave behind?"""

from __future__ import annotations

from whydiff.causes.finding import Explanation
from whydiff.causes.leaks import race, weights
from whydiff.causes.leaks.leak import Leak, apart, cause, same
from whydiff.evidence.traces.trace import Trace
from whydiff.measure.relations import find_relation
from whydiff.places import Place, family

PREDICTIONS = ("noise_pred_text", "noise_pred_uncond")
SIMPLE = ("sign", "scale", "offset", "affine", "zeroed", "clamped", "range")


def explain(leak: Leak, lab) -> list[Explanation]:
    """`cache-spent-state`, `stale-prompt-cache`, `inplace-modification`, ... where the recorded runs or a repair show it."""
    return _first(leak, lab, (_calls, _arguments, weights.explain, _reused, _stale, _shared, _scheduler, _decoder, _encoder, _scaled, race.explain))


def certain(leak: Leak, lab) -> list[Explanation]:
    """Those that hold even where no two runs of the side are alike: what a run has is found, bit for bit, in a run before it."""
    return _first(leak, lab, (_reused, _stale, _shared, race.explain))


def _first(leak: Leak, lab, experiments) -> list[Explanation]:
    for experiment in experiments:
        found = experiment(leak, lab)
        if found is not None:
            return [found]
    return []


def _calls(leak: Leak, lab) -> Explanation | None:
    """The network is evaluated at fewer, or more, steps in the second run: a cache's own counter was used up."""
    one, two = leak.evaluations
    if one == two:
        return None
    return cause(leak, "cache-spent-state", f"the same request evaluates the network {one} times at first and {two} times after another request",
                 "counted the evaluations in two runs of one request, with another request between them",
                 "make the state of the cache anew for each request", {"kind": "evaluations", "first": one, "again": two})  # fmt: skip


def _reused(leak: Leak, lab) -> Explanation | None:
    """The network gives the prediction of an earlier step again, in one of two equal requests and not in the other, or begins
    with what the request before it ended with: a step cache goes on from where that request left it."""
    if not leak.place.probe.startswith("noise_pred") or leak.place.step is None:
        return None
    again = leak.again.events.get(leak.place)
    last = [event.tensor for place, event in leak.other.events.items() if place.probe == leak.place.probe]
    if again is not None and leak.place.step == 0 and again.tensor.any() and any(same(again.tensor, t) for t in last):
        return cause(leak, "cache-spent-state", "the first prediction of a request is one of the request before it",
                     f"compared {leak.place} of the second run with the predictions of the request between: equal, bit for bit",
                     "make the state of the cache anew for each request", {"kind": "reused", "first": [], "again": [0]})  # fmt: skip
    one, two = (repeated_steps(run, leak.place) for run in (leak.first, leak.again))
    if leak.place.step not in set(one) ^ set(two):
        return None
    words = [f"at {len(steps)} ({', '.join(map(str, steps[:6]))})" if steps else "at none" for steps in (one, two)]
    return cause(leak, "cache-spent-state", f"the network gives its prediction of the step before again {words[0]} of the steps at first, and "
                 f"{words[1]} when the same request comes after another one",
                 "compared each prediction with the one of the step before, in two runs of one request with another request between them",
                 "make the state of the cache anew for each request", {"kind": "reused", "first": one[:64], "again": two[:64]})  # fmt: skip


def repeated_steps(run: Trace, place: Place) -> list[int]:
    """Steps at which a run holds, bit for bit, what it held at `place` one step earlier, or what another branch of guidance was
    given right before it."""
    at = {p.step: run[p] for p in run.at(place.probe) if p.step is not None and (p.branch, p.occurrence) == (place.branch, place.occurrence)}
    found = []
    for step, own in sorted(at.items()):
        order = [p for p in run if p.step == step and p.probe in PREDICTIONS and p.occurrence == place.occurrence]
        before = [run[p] for p in order[: next((i for i, p in enumerate(order) if p.branch == place.branch), 0)]]
        before += [at[step - 1]] if step - 1 in at else []
        if own.any() and any(same(own, value) for value in before):
            found.append(step)
    return found


def _arguments(leak: Leak, lab) -> Explanation | None:
    """A tensor of the call was written to."""
    names = [name for name in leak.changed if name.startswith("call.")]
    if not names:
        return None
    return cause(leak, "inplace-modification", f"it writes to {', '.join(names)}, a tensor that the caller passed",
                 f"summed the tensors of the call before and after the runs: {', '.join(names)} changed",
                 "copy the argument before changing it", {"kind": "changed", "names": names}, ("shared-sample-object",))  # fmt: skip


def _stale(leak: Leak, lab) -> Explanation | None:
    """What the second run holds at the place is what the request between had there."""
    mine, between, again = (run.events.get(leak.place) for run in (leak.first, leak.other, leak.again))
    if None in (mine, between, again) or not same(between.tensor, again.tensor) or same(mine.tensor, between.tensor):
        return None
    kind = family(leak.place.probe)
    id_ = "stale-prompt-cache" if leak.place.stage == "prompt_encoding" else "stale-control-tensor" if kind == "model_input" else None
    if id_ is None:
        return None
    return cause(leak, id_, f"{leak.place.probe} of a request is that of the request before it",
                 f"ran another request in between: {leak.place} then holds that request's values, bit for bit",
                 "key the cache on everything that its content depends on, or clear it between requests",
                 {"kind": "stale", "probe": leak.place.probe})  # fmt: skip


def still_held(role: str, place: Place) -> Explanation:
    """The next request holds what the first one held, while the other side's follows the new conditions."""
    embeds = place.stage == "prompt_encoding"
    return Explanation(
        id="stale-prompt-cache" if embeds else "stale-control-tensor", stage="state_leakage", probe=place.probe, explained=1.0, departs=role,
        statement=f"{role}: a request with other conditions still uses the {place.probe} of the request before it",
        relation={"kind": "stale", "side": role, "probe": place.probe},
        experiment=f"ran both sides again with other conditions: {place} follows them on the other side, and keeps its values, bit for bit, here",
        fix="key the cache on everything that its content depends on (the negative prompt, too), or clear it between requests")  # fmt: skip


def _shared(leak: Leak, lab) -> Explanation | None:
    """What a request starts from is what an earlier request ended with."""
    again = leak.again.events.get(leak.place)
    if again is None or again.tensor.numel() < 8:
        return None
    for name, run in (("the request before it", leak.other), ("its own first run", leak.first)):
        for place, event in run.events.items():
            if place.probe != leak.place.probe and place.step is not None and same(event.tensor, again.tensor):
                return cause(leak, "shared-sample-object", f"{leak.place.probe} of a request is what {name} held at {place}",
                             f"compared {leak.place} of the second run with everything recorded before: equal to {place}",
                             "start each request from a tensor of its own", {"kind": "shared", "place": str(place)},
                             ("inplace-modification",))  # fmt: skip
    return None


def _scheduler(leak: Leak, lab) -> Explanation | None:
    """A scheduler made anew from its configuration brings the first result back: the state is the scheduler's."""
    side = lab.sides[leak.role]
    scheduler = getattr(side.subject, "scheduler", None)
    if scheduler is None or not hasattr(scheduler, "from_config") or leak.place.stage not in ("scheduler_step", "rng_noise", "schedule"):
        return None
    try:
        side.subject.scheduler = scheduler.from_config(scheduler.config)
        once_more = lab.run(leak.role)
    finally:
        side.subject.scheduler = scheduler
    if apart(lab, leak, once_more, leak.place):
        return None
    drawn = any(p.probe == "step_noise" for p in leak.first) or type(scheduler).__name__.endswith("SDEScheduler")
    id_ = "noise-sampler-reused" if drawn else "inplace-modification"
    return cause(leak, id_, "its scheduler keeps something from one request to the next" + (" (its stream of noise)" if drawn else ""),
                 "made the scheduler anew from its own configuration: the request gives its first result again",
                 "make the scheduler's state anew in set_timesteps", {"kind": "state", "of": "scheduler"})  # fmt: skip


def _decoder(leak: Leak, lab) -> Explanation | None:
    """Equal latents reach the decoder and it makes something else of them: the decoder keeps something."""
    latents = Place("vae_latents")
    if leak.place.stage != "vae" or latents not in leak.first or not same(leak.first[latents], leak.again.events[latents].tensor):
        return None
    return cause(leak, "conv-cache-leak", "its decoder keeps something from one request to the next",
                 "decoded the same latents in both runs: the results differ, and no weight has changed",
                 "clear the decoder's feature cache before and after each decode", {"kind": "state", "of": "vae"},
                 ("vae-cache-wrong-size",))  # fmt: skip


def _encoder(leak: Leak, lab) -> Explanation | None:
    """Equal pixels reach the encoder and it makes something else of them, with no draw taking part: its cache is not what it was.

    Whether that was sized from the other half, or never cleared, is the same in tensors.
    """
    if leak.place.probe != "image_latents":
        return None
    pixels = Place("init_image", occurrence=leak.place.occurrence)
    runs = (leak.first, leak.again)
    if any(leak.place not in run or pixels not in run or run.events[leak.place].component == "sample" for run in runs):
        return None
    if not same(leak.first[pixels], leak.again[pixels]):
        return None
    found = cause(leak, "vae-cache-wrong-size", "its encoder keeps something from one request to the next",
                 "encoded the same pixels in both runs: the results differ, and no weight has changed",
                 "make the encoder's feature cache anew before each encode, one entry for each of the encoder's causal convolutions",
                 {"kind": "state", "of": "vae encoder"}, ("conv-cache-leak",))  # fmt: skip
    found.stage = "vae"
    return found


def _scaled(leak: Leak, lab) -> Explanation | None:
    """Each run starts from what the run before made of the same values: the operation is done in place, again and again."""
    relation, again = simple_change(lab, leak.place, leak.first, leak.again), simple_change(lab, leak.place, leak.again, leak.third)
    if relation is None or again is None or leak.place.stage in ("vae", "post_processing"):
        return None
    return cause(leak, "inplace-modification", f"{leak.place.probe} changes from run to run by the same operation: {again.words}",
                 f"compared runs of one request in a row at {leak.place}: {again}", "do not write to a tensor that is used again",
                 {"kind": "in_place", "relation": again.kind, **again.parameters}, ("shared-sample-object",))  # fmt: skip


def simple_change(lab, place: Place, one: Trace, other: Trace):
    """The simple relation (sign, scale, offset, ...) between two runs at a place, or None."""
    if place not in one or place not in other or one[place].shape != other[place].shape:
        return None
    relation = find_relation(one[place], other[place], lab.floor.of_run(place, one[place]))
    return relation if relation is not None and relation.kind.startswith(SIMPLE) else None
