"""Networks and pipelines that a program makes after recording was switched on: seen when they are first called."""

from __future__ import annotations

import contextlib
import functools
import importlib.abc
import importlib.util
import inspect
import sys
import threading
import types
import weakref

import torch

from whydiff.evidence.recording.diffusers_probes import Installer, arguments_of, denoisers, forward_signature, text_encoders
from whydiff.evidence.surroundings.fingerprint import RECORDS

PIPELINES = "diffusers.pipelines.pipeline_utils"
_WRAPPERS = ("_orig_mod", "module", "_fsdp_wrapped_module")  # of torch.compile, DistributedDataParallel, FSDP
_TIMESTEPS = ("timestep", "timesteps", "t")


def unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    """The network itself, inside what compiles or distributes it."""
    while True:
        inner = next((m for name in _WRAPPERS if isinstance(m := getattr(module, name, None), torch.nn.Module)), None)
        if inner is None or len(list(module.children())) != 1:
            return module
        module = inner


def component_of(module: torch.nn.Module) -> str:
    """What a pipeline would call a network, told by the arguments it takes; its class's name where they say nothing."""
    taken, kind = set(arguments_of(module)), type(module).__name__
    if taken & set(_TIMESTEPS):
        return "unet" if "unet" in kind.lower() else "transformer"
    if "input_ids" in taken:
        return "text_encoder"
    return "vae" if hasattr(module, "decode") and hasattr(module, "encode") else kind


class Networks(Installer):
    """Probe points at networks that no pipeline holds. A step ends where the timestep that they receive changes."""

    def __init__(self, recorder, stack: contextlib.ExitStack):
        super().__init__(types.SimpleNamespace(components={}, scheduler=None), recorder, stack)
        self.first = self.last = None

    def attach(self, module: torch.nn.Module, name: str | None = None) -> None:
        """Probe points at one network; the second of a kind is `text_encoder_2`."""
        base = name = name or component_of(module)
        held, number = self.pipeline.components, 1
        while name in held:
            number += 1
            name = f"{base}_{number}"
        held[name] = module
        self.pipeline.components = {name: module}  # what the installer's methods look at
        if text_encoders(self.pipeline):
            self.prompt()
        if denoisers(self.pipeline):
            self.denoiser()
        if hasattr(module, "decode"):
            self.pipeline.vae = module
            self.vae()
        self.pipeline.components = held
        self.stack.enter_context(self.recorder.hooked_modules({name: module}))

    def _network_inputs(self, module, component):
        observed, signature = super()._network_inputs(module, component), forward_signature(module)

        def pre(_module, args, kwargs):
            given = signature.bind_partial(*args, **kwargs).arguments
            self._count(next((given[name] for name in _TIMESTEPS if name in given), None))
            return observed(_module, args, kwargs)

        return pre

    def _count(self, timestep) -> None:
        value = timestep.flatten()[0].item() if isinstance(timestep, torch.Tensor) and timestep.numel() else timestep
        if value == self.last or value is None:
            return
        # The first timestep again: another generation has begun.
        self.steps_done = 0 if self.last is None or value == self.first else self.steps_done + 1
        self.first = value if self.first is None else self.first
        self.last = value


class _Depth(threading.local):
    """How many modules are being called, one inside the other."""

    depth = 0


@contextlib.contextmanager
def watching(recorder):
    """While the context lasts, every network is attached when it is first called, and every diffusers pipeline records its calls."""
    with contextlib.ExitStack() as stack:
        networks, known, here = Networks(recorder, stack), weakref.WeakSet(), _Depth()
        original = torch.nn.Module.__call__

        @functools.wraps(original)
        def call(module, *args, **kwargs):
            if module not in known:
                known.update(module.modules())
                if not here.depth:
                    networks.attach(unwrapped(module))
            here.depth += 1
            try:
                return original(module, *args, **kwargs)
            finally:
                here.depth -= 1

        setattr(call, RECORDS, True)
        torch.nn.Module.__call__ = call
        stack.callback(setattr, torch.nn.Module, "__call__", original)
        stack.enter_context(_pipelines(recorder, known))
        yield


@contextlib.contextmanager
def _pipelines(recorder, known):
    """Classes of pipelines that are there, and those that will be imported, record their calls."""
    undo = contextlib.ExitStack()

    def wrap(kind):
        original = vars(kind).get("__call__")
        if not inspect.isfunction(original):
            return

        @functools.wraps(original)
        def call(pipeline, *args, **kwargs):
            for part in pipeline.components.values():
                if isinstance(part, torch.nn.Module):
                    known.update(part.modules())
            with recorder.calling(pipeline, args, kwargs) as finish:
                return finish(original(pipeline, *args, **kwargs))

        setattr(call, RECORDS, True)
        kind.__call__ = call
        undo.callback(setattr, kind, "__call__", original)

    def watch(module):
        base, before = module.DiffusionPipeline, module.DiffusionPipeline.__init_subclass__

        def made(kind, **kwargs):
            before(**kwargs)
            wrap(kind)

        setattr(made, RECORDS, True)
        base.__init_subclass__ = classmethod(made)
        undo.callback(lambda: delattr(base, "__init_subclass__") if "__init_subclass__" in vars(base) else None)
        waiting = [base]
        while waiting:
            wrap(waiting[-1])
            waiting.extend(waiting.pop().__subclasses__())

    finder = _Imported(PIPELINES, watch)
    if PIPELINES in sys.modules:
        watch(sys.modules[PIPELINES])
    else:
        sys.meta_path.insert(0, finder)
        undo.callback(lambda: sys.meta_path.remove(finder) if finder in sys.meta_path else None)
    with undo:
        yield


class _Imported(importlib.abc.MetaPathFinder):
    """Calls `then(module)` when the module `name` has been imported."""

    def __init__(self, name: str, then):
        self.name, self.then, self.asked = name, then, False

    def find_spec(self, name, path=None, target=None):
        if name != self.name or self.asked:
            return None
        self.asked = True
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def executed(module):
            execute(module)
            self.then(module)

        spec.loader.exec_module = executed
        return spec
