"""A side that can be run: loaded from a case's `live.entry`, or handed over as an object, and called with `call`."""

from __future__ import annotations

import contextlib
import functools
import gc
import inspect
import pathlib
import random
import sys
from collections.abc import Callable
from typing import Any

import torch

from whydiff.errors import Trouble, did_you_mean, where_raised
from whydiff.evidence.floor import shaking
from whydiff.evidence.recording.recorder import Recorder
from whydiff.evidence.sides.as_loaded import AsLoaded
from whydiff.evidence.surroundings.checksums import checksums
from whydiff.evidence.surroundings.configurations import configurations
from whydiff.evidence.surroundings.environment import versions
from whydiff.evidence.surroundings.fingerprint import code_fingerprint, fingerprint, package_version
from whydiff.evidence.traces.trace import Event, Trace
from whydiff.measure.pictures import to_image
from whydiff.measure.tensors import raw_bytes
from whydiff.places import Place

# Settings other frameworks spell differently; a repair that changes one looks for the spelling the side knows.
SYNONYMS = {
    "num_inference_steps": ("num_inference_steps", "num_steps", "steps", "sampling_steps", "inference_steps"),
    "max_sequence_length": ("max_sequence_length", "max_length", "text_len", "t5_length"),
    "height": ("height",),
    "width": ("width",),
    "num_frames": ("num_frames", "frames", "video_length"),
    "guidance_scale": ("guidance_scale", "guidance", "embedded_cfg_scale"),
    "seed": ("seed",),
    "prompt": ("prompt",),
}


SIDE_MODULE = "whydiff_side_"  # how the modules of sides are called in sys.modules


class RunnableSide:
    """One implementation, ready to run. `role` is "reference" or "candidate"; errors name it."""

    def __init__(self, subject, call: dict[str, Any], *, role: str, name: str = "", build=None, entry: str = "",
                 make: Callable[[], Any] | None = None):  # fmt: skip
        if not callable(subject):
            raise Trouble(f"{role}: {entry or type(subject).__name__} gave a {type(subject).__name__}, which cannot be "
                          "called. Return a pipeline, or a function that takes the keys of `call`.")  # fmt: skip
        self._subject, self._make, self.call, self.role = subject, make, dict(call), role
        self.signature = inspect.signature(subject)
        self.instead_of: RunnableSide | None = None  # the side that is given up when this one is needed
        self.build, self.entry = dict(build or {}), entry
        self.name = name or getattr(subject, "__name__", type(subject).__name__)
        self.runs = 0
        self.unmatched: frozenset[int] = frozenset()  # what recorders of its runs are told: see Recorder
        self.resized: frozenset[str] = frozenset()
        self.guided_alone = False
        self.known_identity: tuple | None = None  # where it was found out before
        self.global_draws: set[str] = set()  # the global generators that runs drew from
        # A generator that the call holds is used up by a run: each run begins with the state that the caller gave it.
        self._generators = [(held, held.get_state()) for held in _generators(self.call)]
        self.generator_device = str(self.call.get("generator_device", "cpu"))
        self._check_call()

    # --- what the side can be told -----------------------------------------------------------------------------

    @property
    def subject(self):
        """What is called. Made again where it had been given up for the other side."""
        if self._subject is None:
            if self.instead_of is not None:
                self.instead_of.give_up()
            self._subject = self._make()
        return self._subject

    @property
    def can_be_made_again(self) -> bool:
        return self._make is not None

    def give_up(self) -> None:
        """Let go of the side's models; whatever needs them next makes them again."""
        self._subject = None
        gc.collect()

    def left(self):
        """What a side of the same entry and build can be made of without loading; None where this one was given up."""
        return self._subject

    def remember(self) -> AsLoaded | None:
        """What the side holds now, for `put_back` after it was run."""
        return AsLoaded(self.subject)

    def put_back(self, memory: AsLoaded | None) -> bool:
        """False where something is left that cannot be put back, as far as this side can tell."""
        memory.put_back()
        return True

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        return dict(self.signature.parameters)

    @property
    def takes_anything(self) -> bool:
        return any(p.kind is p.VAR_KEYWORD for p in self.parameters.values())

    def takes(self, key: str) -> bool:
        return key in self.parameters or self.takes_anything

    def spelling(self, setting: str) -> str | None:
        """The keyword under which this side takes a setting, or None: `steps` for `num_inference_steps`."""
        names = SYNONYMS.get(setting, (setting,))
        return next((n for n in names if n in self.parameters), setting if self.takes_anything else None)

    def _check_call(self):
        takes_generator = "generator" in self.parameters or self.takes_anything
        if not takes_generator and "seed" not in self.parameters and "seed" in self.call:
            raise Trouble(f"{self.role} ({self.name}): takes neither `seed` nor `generator`, so the call's seed cannot reach it. "
                          "Add one of them to its signature, or leave seed out of the call.")  # fmt: skip
        unknown = [k for k in self.call if k not in ("seed", "generator_device") and not self.takes(k)]
        if unknown:
            raise Trouble(f"{self.role} ({self.name}): call.{unknown[0]} is not a parameter of it."
                          f"{did_you_mean(unknown[0], self.parameters)}")  # fmt: skip
        self._check_device()

    def _check_device(self) -> None:
        try:
            torch.Generator(self.generator_device)
        except RuntimeError:
            raise Trouble(f"{self.role}: generator_device {self.generator_device!r} is not to be had on this machine. "
                          "Use cpu, or run where that device is.") from None  # fmt: skip

    def arguments(self, changes: dict[str, Any] | None = None) -> dict[str, Any]:
        """The keyword arguments of one run: the call with `changes`, its seed as the side takes it."""
        arguments = {**self.call, **(changes or {})}
        if "generator_device" not in self.parameters:
            arguments.pop("generator_device", None)
        if "seed" in arguments and "seed" not in self.parameters:
            seed = arguments.pop("seed")
            if seed is not None:
                arguments["generator"] = torch.Generator(self.generator_device).manual_seed(self._whole(seed))
        return arguments

    def _whole(self, seed) -> int:
        try:
            return int(seed)
        except (TypeError, ValueError):
            raise Trouble(f"{self.role} ({self.name}): call.seed is {seed!r}; give a whole number.") from None

    def effective_settings(self) -> dict[str, dict]:
        """Every scalar parameter with its value and where it came from: the call, or the side's own default."""
        found = {}
        for key, parameter in self.parameters.items():
            if key in self.call:
                found[key] = {"value": self.call[key], "origin": "call"}
            elif parameter.default is not parameter.empty and isinstance(parameter.default, (str, int, float, bool, type(None))):
                found[key] = {"value": parameter.default, "origin": f"default of {self.name}"}
        for key in self.call:
            found.setdefault(key, {"value": self.call[key], "origin": "call"})
        found.setdefault("seed", {"value": None, "origin": "not specified: the global generator, seeded with 0"})
        return found

    @property
    def components(self) -> dict[str, Any]:
        return dict(getattr(self.subject, "components", None) or {})

    def identity(self) -> tuple:
        """Code, weights and configuration, and the versions of what runs them: equal for sides between which nothing differs."""
        return self.known_identity or (code_fingerprint(self.subject), fingerprint(self.subject), versions())

    def checksums(self) -> dict[str, tuple[float, float]]:
        """What a run may change behind one's back: weights, buffers and tensors of the call."""
        return checksums(self.components, self.call)

    # --- running -----------------------------------------------------------------------------------------------

    def run(self, recorder: Recorder | None = None, changes: dict[str, Any] | None = None, shaken: int | None = None) -> Trace:
        """One run with everything it shows. Random generators are seeded with 0 first, on all devices.

        `shaken`: the seed with which the outputs of its modules are moved by one ulp. Raises Trouble when the side raises:
        which side, what, and the line of its code.
        """
        recorder = recorder or Recorder()
        recorder.unmatched, recorder.resized, recorder.guided_alone = self.unmatched, self.resized, self.guided_alone
        self.runs += 1
        return self._run(recorder, changes, shaken)

    def _run(self, recorder: Recorder, changes: dict[str, Any] | None, shaken: int | None) -> Trace:
        arguments = self.arguments(changes)
        seed_everything(0)
        for held, state in self._generators:
            held.set_state(state)
        before = _global_states()
        moved = shaking(self.components, shaken) if shaken is not None else contextlib.nullcontext()
        try:
            with torch.no_grad(), _restored_flags(), moved, recorder.listen(self.subject):
                output = self.subject(**arguments)
        except Trouble:
            raise
        except (Exception, SystemExit) as error:
            raise Trouble(f"{self.role} ({self.name}) raised {type(error).__name__}: {error} {where_raised(error)}") from error
        self.global_draws |= {name for name, state in _global_states().items() if name in before and state != before[name]}
        self._add_image(recorder, output)
        noted = {"calls": recorder.trace.calls, "encoders": recorder.trace.encoders}
        recorder.trace.producer = self.producer | {key: value for key, value in noted.items() if value}
        recorder.trace.settings = {k: v["value"] for k, v in self.effective_settings().items() if _plain(v["value"])}
        return recorder.trace

    def _add_image(self, recorder: Recorder, output) -> None:
        """What the side returned is `image`, unless its code tapped `image` itself."""
        if Place("image") in recorder.trace:
            image = recorder.trace["image"]
            recorder.trace.events[Place("image")].tensor = to_image(image)[0]
            return
        try:
            image, bits = to_image(output)
        except (TypeError, ValueError, AttributeError):
            return
        recorder.keep(Event(Place("image"), image, component=f"{bits} bit" if bits else None))

    @functools.cached_property
    def producer(self) -> dict:
        """Where this side's code comes from, found by looking at it before its first run ends, never typed by hand."""
        kind = self.subject if inspect.isroutine(self.subject) else type(self.subject)
        module = getattr(kind, "__module__", "") or ""
        if module.startswith(SIDE_MODULE):  # a file loaded by its path has the name of that file
            module = pathlib.Path(self.entry.rpartition(":")[0]).stem
        package = module.split(".")[0]
        return {"package": package, "version": package_version(package), "name": f"{module}.{kind.__qualname__}",
                "code": code_fingerprint(self.subject), "entry": self.entry, "components": configurations(self.subject),
                "build": {k: v if _plain(v) else str(v) for k, v in self.build.items()}}  # fmt: skip


@contextlib.contextmanager
def _restored_flags():
    """What a side changes in torch's global state must not leak into the other side's run."""
    threads, default = torch.get_num_threads(), torch.get_default_dtype()
    deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.set_default_dtype(default)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        if torch.are_deterministic_algorithms_enabled() != deterministic:
            torch.use_deterministic_algorithms(deterministic)


def seed_everything(seed: int) -> None:
    """Seed `random`, numpy and torch on every device. A seed from outside is folded into the 32 bits numpy accepts."""
    random.seed(seed)
    torch.manual_seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed % 2**32)


def _generators(call: dict) -> list[torch.Generator]:
    """The generators of a call, each once: alone under a key, or in a list with one for each item."""
    values = [one for value in call.values() for one in (value if isinstance(value, (list, tuple)) else [value])]
    return list({id(one): one for one in values if isinstance(one, torch.Generator)}.values())


def _global_states() -> dict[str, bytes]:
    """The state of each global generator that `seed_everything` seeds: what changed during a run was drawn from."""
    states = {"torch": raw_bytes(torch.get_rng_state()), "random": repr(random.getstate()[1]).encode()}
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        _, keys, position, *rest = numpy.random.get_state()
        states["numpy"] = keys.tobytes() + repr((position, rest)).encode()
    if torch.cuda.is_initialized():
        states["torch.cuda"] = b"".join(raw_bytes(state) for state in torch.cuda.get_rng_state_all())
    return states


def _plain(value) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))
