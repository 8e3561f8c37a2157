"""Probe points at random draws: `initial_noise` before the sampling loop, `step_noise` inside a scheduler's step.

diffusers draws through `randn_tensor`; code that draws with torch's own functions is seen, too, inside a step and, where
a pipeline knows no `randn_tensor`, while it prepares its latents.
"""

from __future__ import annotations

import contextlib
import functools
import sys

import torch
from torch.overrides import TorchFunctionMode

# Draws of unit normals; a dropout mask or a random index is no noise of the sampler.
NORMAL_DRAWS = {torch.randn, torch.randn_like, torch.normal, torch.Tensor.normal_}


class Draws:
    """Sees each draw of one run once, however deep the functions that draw are nested."""

    def __init__(self, recorder):
        self.recorder = recorder
        self.step: int | None = None  # the sampler step whose scheduler draws; None before the loop
        self.inside = False

    def observe(self, noise: torch.Tensor, generator) -> torch.Tensor:
        component = "generator" if generator is not None else "global generator"
        if self.step is not None:
            return self.recorder.observe("step_noise", noise, step=self.step, component=component)
        return self.recorder.observe("initial_noise", noise, component=component)

    def through(self, draw, args, kwargs):
        """`draw(*args, **kwargs)`, seen as one draw."""
        if self.inside:
            return draw(*args, **kwargs)
        self.inside = True
        try:
            noise = draw(*args, **kwargs)
        finally:
            self.inside = False
        if not isinstance(noise, torch.Tensor) or not noise.is_floating_point():
            return noise
        other = self.observe(noise, kwargs.get("generator"))
        if other is not noise and draw is torch.Tensor.normal_:
            return noise.copy_(other)
        return other

    @contextlib.contextmanager
    def watching(self):
        """While the context lasts, draws made with torch's own functions are seen."""
        with _Watch(self):
            yield


class _Watch(TorchFunctionMode):
    def __init__(self, draws: Draws):
        super().__init__()
        self.draws = draws

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in NORMAL_DRAWS:
            return self.draws.through(function, args, kwargs)
        return function(*args, **kwargs)


def homes_of_randn_tensor(*owners) -> list[dict]:
    """The namespaces in which the code of these objects finds `randn_tensor`, which modules import by name."""
    homes = {}
    for owner in owners:
        for parent in type(owner).__mro__:
            space = vars(sys.modules[parent.__module__]) if parent.__module__ in sys.modules else {}
            if "randn_tensor" in space:
                homes[parent.__module__] = space
    return list(homes.values())


def install(pipeline, draws: Draws, stack: contextlib.ExitStack) -> bool:
    """Watch `randn_tensor` where pipeline and scheduler find it, until `stack` closes. False: the pipeline knows none."""
    for space in homes_of_randn_tensor(pipeline, pipeline.scheduler):
        original = space["randn_tensor"]

        @functools.wraps(original)
        def draw(*args, _original=original, **kwargs):
            if len(args) > 1:  # randn_tensor(shape, generator, ...)
                args, kwargs = args[:1] + args[2:], {"generator": args[1], **kwargs}
                args, kwargs = args[:1], {**dict(zip(("device", "dtype", "layout"), args[1:])), **kwargs}
            return draws.through(_original, args, kwargs)

        space["randn_tensor"] = draw
        stack.callback(space.__setitem__, "randn_tensor", original)
    return bool(homes_of_randn_tensor(pipeline))
