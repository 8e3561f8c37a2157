"""A lab of two sampling loops that are nothing but a scheduler and a made-up network: recorded as whydiff records pipelines."""

import types

import torch

from whydiff.causes.finding import Finding
from whydiff.engine.lab import Lab
from whydiff.evidence.floor import STANDS_OUT
from whydiff.evidence.recording.diffusers_probes import probes
from whydiff.evidence.recording.recorder import Recorder
from whydiff.evidence.traces.trace import Trace
from whydiff.measure.compare import relative_l2

SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}


class Network(torch.nn.Module):
    """A prediction that depends on latents and timestep, smooth and bounded."""

    def forward(self, hidden_states, timestep):
        return torch.tanh(hidden_states * 0.3 + timestep.double().mean().float() / 1000)


class Pipeline:
    """A loop over a scheduler. `step(scheduler, k, ...)` may take the place of scheduler.step."""

    def __init__(self, scheduler, steps=6, start=0, step=None, seed=0, eta=None, begin=True, arguments=None, scale=True, initial=None):
        self.scheduler, self.transformer = scheduler, Network()
        self.components = {"scheduler": scheduler, "transformer": self.transformer}
        self.steps, self.start, self.step, self.seed, self.eta = steps, start, step, seed, eta
        self.begin, self.arguments, self.scale, self.initial = begin, arguments or {}, scale, initial

    def __call__(self):
        given = {"num_inference_steps": self.steps} | self.arguments
        self.scheduler.set_timesteps(**{k: v for k, v in given.items() if v is not None})
        generator = torch.Generator().manual_seed(self.seed)
        latents = torch.randn(1, 4, 8, 8, generator=generator)
        latents = latents * (getattr(self.scheduler, "init_noise_sigma", 1.0) if self.initial is None else self.initial)
        order = getattr(self.scheduler, "order", 1)
        timesteps = self.scheduler.timesteps[self.start * order :]
        if self.start and self.begin and hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(self.start * order)
        extra = {} if self.eta is None else {"eta": self.eta}
        for k, t in enumerate(timesteps):
            scaled = self.scheduler.scale_model_input(latents, t) if self.scale and hasattr(self.scheduler, "scale_model_input") else latents
            prediction = self.transformer(scaled, t[None])
            if self.step is not None:
                latents = self.step(self.scheduler, k, prediction, t, latents)
            else:
                latents = self.scheduler.step(prediction, t, latents, return_dict=False, **extra)[0]
        return latents


def run(pipeline, values: Trace | None = None) -> Trace:
    """The trace of one run; with `values`, every probe is fed what they hold."""

    def substitute(place, own):
        event = values.events.get(place)
        return event.tensor if event is not None and event.tensor.shape == own.shape else None

    recorder = Recorder(substitute=substitute if values is not None else None)
    torch.manual_seed(0)
    with torch.no_grad(), probes(pipeline, recorder):
        pipeline()
    recorder.trace.producer = {"calls": recorder.trace.calls}
    return recorder.trace


def lab_of(reference, candidate, live: bool = True) -> Lab:
    """A lab whose candidate ran on the reference's values (`live`), or that has but both traces."""
    from whydiff.evidence.case import make_case
    from whydiff.evidence.surroundings.configurations import configurations

    lab = Lab(make_case({"reference": {"settings": {"a": 1}}, "candidate": {"settings": {"a": 1}}}))
    for role, pipeline in (("reference", reference), ("candidate", candidate)):
        lab.traces[role] = run(pipeline)
        lab.traces[role].producer["components"] = configurations(pipeline)
        if live:
            lab.sides[role] = types.SimpleNamespace(subject=pipeline, components=pipeline.components)
    if live:
        lab.last_forced = run(candidate, lab.traces["reference"])
    return lab


def finding(lab: Lab, probe: str) -> Finding:
    """The places of a probe at which what the candidate made differs from the reference."""
    reference, made = lab.traces["reference"], lab.last_forced or lab.traces["candidate"]
    places = [p for p in reference.at(probe) if p in made]
    apart = [p for p in places if reference[p].shape != made[p].shape or relative_l2(reference[p], made[p]) > STANDS_OUT * 1.2e-7]
    assert apart, f"nothing differs at {probe}"
    shaped = {p: made[p] for p in apart if made[p].shape == reference[p].shape}
    difference = relative_l2(reference[apart[0]], shaped[apart[0]]) if apart[0] in shaped else None
    return Finding(probe, apart, {p: reference[p] for p in apart}, shaped, difference, 1.2e-7)
