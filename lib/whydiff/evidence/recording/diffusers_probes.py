"""Probe points on any diffusers pipeline, found by the type of its components and never by the pipeline's class.

Nothing of diffusers is imported. Methods are wrapped on the instances and modules get hooks; all of it is gone when
the context ends. Every probe observes and repairs: what `Recorder.observe` returns is what the pipeline goes on with.
"""

from __future__ import annotations

import contextlib
import functools
import inspect

import torch

from whydiff.evidence.recording import draw_probes, encoder_notes, scheduler_calls, vae_probes
from whydiff.evidence.recording.branches import Branches
from whydiff.evidence.recording.recorder import Recorder
from whydiff.evidence.recording.result_names import result_names


def has_probes(pipeline) -> bool:
    """True for anything built like a diffusers pipeline: components, and a scheduler that sets timesteps and steps."""
    scheduler = getattr(pipeline, "scheduler", None)
    return hasattr(pipeline, "components") and hasattr(scheduler, "set_timesteps") and hasattr(scheduler, "step")


def forward_signature(module: torch.nn.Module) -> inspect.Signature:
    """The named parameters of a module's forward; those of its class where a wrapper on the instance only says *args, **kwargs."""
    signature = inspect.signature(module.forward)
    if all(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in signature.parameters.values()):
        signature = inspect.signature(functools.partial(type(module).forward, module))
    return signature


def arguments_of(module: torch.nn.Module) -> list[str]:
    try:
        return list(forward_signature(module).parameters)
    except (TypeError, ValueError):
        return []


def as_passed(signature: inspect.Signature, values: dict, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """New values in the very form in which the arguments came: positional stay positional, keywords stay keywords."""
    names = [p.name for p in signature.parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    positional = tuple(values.get(name, old) for name, old in zip(names, args)) + args[len(names) :]
    gathered = {k: v for name, extra in values.items() if name in signature.parameters
                and signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD for k, v in extra.items()}  # fmt: skip
    given = {key: values.get(key, gathered.get(key, old)) for key, old in kwargs.items()}
    left_out = {key: value for key, value in values.items() if key in names[len(args) :] and key not in given and value is not None}
    return positional, given | left_out


def denoisers(pipeline) -> dict[str, torch.nn.Module]:
    """The networks of the sampling loop: modules whose forward names a timestep, control networks apart."""
    found = {}
    for name, module in pipeline.components.items():
        if isinstance(module, torch.nn.Module) and not name.startswith(("controlnet", "vae")):
            if {"timestep", "timesteps", "t"} & set(arguments_of(module)):
                found[name] = module
    return found


def text_encoders(pipeline) -> dict[str, torch.nn.Module]:
    """Modules whose forward names input_ids, with the suffix that their probes carry ("", "_2", ...)."""
    found = {}
    for name, module in pipeline.components.items():
        if isinstance(module, torch.nn.Module) and "input_ids" in arguments_of(module):
            found[name] = module
    return found


@contextlib.contextmanager
def probes(pipeline, recorder: Recorder):
    """Install all probe points on `pipeline` for as long as the context lasts."""
    with contextlib.ExitStack() as stack:
        install = Installer(pipeline, recorder, stack)
        install.noise()
        install.prompt()
        install.schedule()
        install.denoiser()
        install.step()
        install.vae()
        yield


class Installer:
    """Installs the probe points of one pipeline, one kind after the other."""

    def __init__(self, pipeline, recorder: Recorder, stack: contextlib.ExitStack):
        self.pipeline, self.recorder, self.stack = pipeline, recorder, stack
        self.scheduler = pipeline.scheduler
        self.branches = Branches(recorder.embeds)
        self.draws = draw_probes.Draws(recorder)
        self.steps_done = 0
        self.latents_seen = False

    # --- tools -----------------------------------------------------------------------------------------------

    def wrap(self, owner, name: str, around):
        """Replace `owner.name` by `around(original, *args, **kwargs)` on the instance alone, until the context ends."""
        original = getattr(owner, name, None)
        if original is None:
            return

        @functools.wraps(original)
        def wrapper(*args, **kwargs):
            return around(original, *args, **kwargs)

        before = vars(owner).get(name, None)
        had = name in vars(owner)
        object.__setattr__(owner, name, wrapper)

        def undo():
            if had:
                object.__setattr__(owner, name, before)
            else:
                object.__delattr__(owner, name)

        self.stack.callback(undo)

    def hook(self, handle):
        self.stack.callback(handle.remove)

    # --- probe points ----------------------------------------------------------------------------------------

    def noise(self):
        """`initial_noise`: the pure draw, and `initial_latents`: what the pipeline makes of it."""
        drawn = draw_probes.install(self.pipeline, self.draws, self.stack)

        def prepare(original, *args, **kwargs):
            with contextlib.nullcontext() if drawn else self.draws.watching():
                result = original(*args, **kwargs)
            first = result[0] if isinstance(result, tuple) else result
            if not isinstance(first, torch.Tensor):
                return result
            self.latents_seen = True
            first = self.recorder.observe("initial_latents", first)
            return (first, *result[1:]) if isinstance(result, tuple) else first

        def prepare_mask(original, *args, **kwargs):
            result = original(*args, **kwargs)
            if isinstance(result, tuple) and isinstance(result[0], torch.Tensor):
                return (self.recorder.observe("mask", result[0]), *result[1:])
            return result

        self.wrap(self.pipeline, "prepare_latents", prepare)
        self.wrap(self.pipeline, "prepare_mask_latents", prepare_mask)

    def prompt(self):
        for name, module in text_encoders(self.pipeline).items():
            suffix = name.removeprefix("text_encoder") if name.startswith("text_encoder") else f"_{name}"
            self.hook(module.register_forward_pre_hook(self._encoder_inputs(module, suffix, name), with_kwargs=True))
            if self.recorder.notes:
                encoder_notes.install(module, name, self.recorder.trace, self.stack)

        def encode(original, *args, **kwargs):
            names = result_names(self.pipeline, "encode_prompt")
            result = original(*args, **kwargs)
            parts = list(result) if isinstance(result, tuple) else [result]
            for i, part in enumerate(parts):
                name = names[i] if i < len(names) else ("prompt_embeds", "negative_prompt_embeds")[i] if i < 2 else None
                if isinstance(part, torch.Tensor) and name and name.endswith("embeds"):
                    parts[i] = self.recorder.observe(name, part)
            return tuple(parts) if isinstance(result, tuple) else parts[0]

        self.wrap(self.pipeline, "encode_prompt", encode)

    def _encoder_inputs(self, module, suffix, component):
        def pre(_module, args, kwargs):
            signature = forward_signature(module)
            bound = signature.bind_partial(*args, **kwargs)
            for argument in ("input_ids", "attention_mask"):
                value = bound.arguments.get(argument)
                if isinstance(value, torch.Tensor):
                    bound.arguments[argument] = self.recorder.observe(argument + suffix, value, component=component)
            return as_passed(signature, bound.arguments, args, kwargs)

        return pre

    def schedule(self):
        def set_timesteps(original, *args, **kwargs):
            result = original(*args, **kwargs)
            scheduler_calls.note_timesteps(self.recorder.trace, self.scheduler, original, args, kwargs)
            self.steps_done = 0
            for name in ("sigmas", "timesteps", "alphas_cumprod"):
                value = getattr(self.scheduler, name, None)
                if isinstance(value, torch.Tensor):
                    other = self.recorder.observe(name, value)
                    if other is not value:
                        setattr(self.scheduler, name, other)
            return result

        self.wrap(self.scheduler, "set_timesteps", set_timesteps)

    def denoiser(self):
        for name, module in denoisers(self.pipeline).items():
            self.hook(module.register_forward_pre_hook(self._network_inputs(module, name), with_kwargs=True))
            self.hook(module.register_forward_hook(self._network_output(name), with_kwargs=True))

    def _network_inputs(self, module, component):
        signature = forward_signature(module)
        main = next(iter(signature.parameters))

        def pre(_module, args, kwargs):
            bound = signature.bind(*args, **kwargs)
            # `bind` collects **kwargs under their own name; what the network receives are the entries.
            received = bound.arguments
            split = self.branches.of_call(received)
            self.recorder.step, self.recorder.branch = self.steps_done, split.single
            self.recorder.conditional = split.rows_of("cond")
            for argument in signature.parameters:
                value = received.get(argument)
                if value is None and argument not in ("self", "return_dict"):
                    value = split.observe_absent(self.recorder, f"model_input/{argument}", step=self.steps_done)
                    if value is not None:
                        received[argument] = value
            for argument, value in list(received.items()):
                probe = "latent_model_input" if argument == main else f"model_input/{argument}"
                received[argument] = split.observe(self.recorder, probe, value, step=self.steps_done, component=component)
            return as_passed(signature, received, args, kwargs)

        return pre

    def _network_output(self, component):
        def post(_module, _args, _kwargs, output):
            split = self.branches.last
            value = output[0] if isinstance(output, tuple) else getattr(output, "sample", output)
            if not isinstance(value, torch.Tensor):
                return None
            changed = split.observe_output(self.recorder, value, step=self.steps_done, component=component)
            self.recorder.branch = None
            if isinstance(output, tuple):
                return (changed, *output[1:])
            if output is value:
                return changed
            output.sample = changed
            return output

        return post

    def step(self):
        def step(original, *args, **kwargs):
            signature = scheduler_calls.named_signature(original, type(self.scheduler).step)
            given = signature.bind(*args, **kwargs).arguments
            index = self.steps_done
            if not self.latents_seen and isinstance(given.get("sample"), torch.Tensor):
                self.latents_seen = True
                given["sample"] = self.recorder.observe("initial_latents", given["sample"])
            if isinstance(given.get("model_output"), torch.Tensor):
                given["model_output"] = self.recorder.observe("noise_pred", given["model_output"], step=index)
            scheduler_calls.note_step(self.recorder.trace, self.scheduler, given)
            args, kwargs = as_passed(signature, given, args, kwargs)
            self.draws.step = index
            try:
                with self.draws.watching():
                    result = original(*args, **kwargs)
            finally:
                self.draws.step = None
            value = result[0] if isinstance(result, tuple) else result.prev_sample
            changed = self.recorder.observe("latents", value, step=index)
            self.steps_done += 1
            if isinstance(result, tuple):
                return (changed, *result[1:])
            result.prev_sample = changed
            return result

        self.wrap(self.scheduler, "step", step)

    def vae(self):
        vae = getattr(self.pipeline, "vae", None)
        if vae is not None:
            vae_probes.install(self.wrap, vae, self.recorder)
