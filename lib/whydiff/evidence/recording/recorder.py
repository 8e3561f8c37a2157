"""The recorder: sees every tap and probe of one run, keeps copies, and during an experiment puts other values there."""

from __future__ import annotations

import contextlib
import fnmatch
from collections import Counter
from collections.abc import Callable

import torch

from whydiff import taps
from whydiff.evidence.recording.functions import functions_of
from whydiff.evidence.traces.trace import Event, Trace
from whydiff.evidence.traces.trace_writer import Held, TraceWriter
from whydiff.places import Place, stage_of

NOTHING = object()  # what a `substitute` returns to leave an argument out
EMBEDS = ("prompt_embeds", "negative_prompt_embeds")  # they tell the branches of guidance apart
Substitute = Callable[[Place, torch.Tensor], "torch.Tensor | None"]


class Recorder:
    """Listens to one run.

    `substitute(place, own)` may return a tensor that the run goes on with instead of `own` (same shape; dtype and
    device are made to fit), NOTHING to leave a network's argument out, or None to leave it alone. `fill(place)` may give
    a tensor for an argument that the run leaves out. What is recorded is always `own`, the run's own value.
    `modules` are globs over `<component>/<dotted name>`; the outputs of those modules are recorded as probe `modules`.
    `look(name, tensor)` sees what torch functions return inside the components `looked_at`, at `steps`.
    """

    def __init__(self, *, substitute: Substitute | None = None, modules: list[str] = (), steps: list[int] | None = None,
                 writer: TraceWriter | None = None, fill: Callable[[Place], torch.Tensor | None] | None = None, notes: bool = False,
                 look: Callable[[str, torch.Tensor], None] | None = None, looked_at: list[str] = (), in_memory: bool = True):  # fmt: skip
        self.trace = Trace()
        self.in_memory = in_memory  # otherwise only the writer has the tensors
        self.substitute, self.fill = substitute, fill
        self.modules = list(modules)
        self.notes = notes  # of text encoders, for a recording that is kept without its side
        self.steps = steps
        self.look, self.looked_at = look, list(looked_at)
        self.writer = writer
        self.step: int | None = None  # the sampler step that was shown last
        self._ended: int | None = None  # the last step whose `latents` were shown
        self.branch: str | None = None
        self.conditional: tuple[slice, int] | None = None  # of a network call that holds both branches: see Split.rows_of
        self.embeds: dict[str, torch.Tensor] = {}  # of the two prompts, as the run goes on with them
        self._seen: Counter = Counter()
        self.unmatched: frozenset[int] = frozenset()  # steps that the other side's loop leaves out: neither recorded nor counted
        self.resized: frozenset[str] = frozenset()  # probes at which another shape may be put
        self.guided_alone = False  # the other side has no branches: the conditional one is what it has, and bears no name

    def observe(self, name, tensor, *, step=None, branch=None, module=None, component=None, device=None):
        """Record one tensor (of `device`, where a copy of it is given); return it, or what the experiment puts in its place."""
        if step is not None:
            self.step = step
            self._ended = step if name == "latents" else self._ended
            if step in self.unmatched:
                return tensor
            step = self._counted(step)
        branch = self._named(branch)
        key = (name, step, branch, module)
        place = Place(name, step, branch, self._seen[key], module)
        self._seen[key] += 1
        own = tensor.detach()
        held = self.copy_of(own)
        event = Event(place, held.tensor, device or str(own.device), component, held=held)
        if self.in_memory:
            self.trace.add(event)
        given = self._instead(place, tensor, event)
        event.injected = given is not tensor
        if self.writer is not None:
            self.writer.write(event)
        self.note_embeds(name, given)
        return given

    def copy_of(self, own: torch.Tensor) -> Held:
        """A copy in the machine's memory."""
        return Held(own.to("cpu", copy=True))

    @property
    def running(self) -> int | None:
        """The step that a network evaluated now belongs to, as far as known: what comes behind a step's `latents` is the next one.

        A side may show nothing of a step before its network has run.
        """
        return self.step if self.step is None or self.step != self._ended else self.step + 1

    def keep(self, event: Event) -> None:
        """Record a tensor that nothing is put in the place of."""
        self.trace.add(event)
        if self.writer is not None:
            self.writer.write(event)

    def note_embeds(self, name: str, given: torch.Tensor | None) -> None:
        if name in EMBEDS and given is not None:
            self.embeds[name] = given.detach()

    def _instead(self, place: Place, tensor, event: Event):
        """What the run goes on with."""
        own = tensor.detach()
        if self.substitute is None:
            return tensor
        other = self.substitute(place, event.tensor)
        if other is NOTHING:
            self.trace.moved.add(place)
            return None
        if other is None or (other.shape != tensor.shape and place.probe not in self.resized):
            return tensor
        other = other.detach().to(device=tensor.device, dtype=tensor.dtype, copy=True)
        if other.shape != own.shape or not torch.equal(other, own):
            self.trace.moved.add(place)
        return other

    def observe_absent(self, name, *, step=None, branch=None):
        """Note that an argument of the network is left out; return what the experiment puts there, or None.

        Calls are counted as in `observe`, which sees the argument next where something is put there.
        """
        if step is not None and step in self.unmatched:
            return None
        step, branch = self._counted(step), self._named(branch)
        key = (name, step, branch, None)
        place = Place(name, step, branch, self._seen[key])
        self.trace.absent.add(place)
        value = None if self.fill is None else self.fill(place)
        if value is None:
            self._seen[key] += 1
        return value

    def observe_nested(self, name, value, *, step=None, branch=None, component=None):
        """`observe` for tensors inside lists, tuples and dicts; anything else passes through untouched."""
        if isinstance(value, torch.Tensor):
            return self.observe(name, value, step=step, branch=branch, component=component)
        if isinstance(value, dict):
            changed = {k: self.observe_nested(f"{name}/{k}", v, step=step, branch=branch) for k, v in value.items()}
            return type(value)(changed) if type(value) is dict else value
        if type(value) in (list, tuple):
            return type(value)(self.observe_nested(f"{name}/{i}", v, step=step, branch=branch)
                               for i, v in enumerate(value))  # fmt: skip
        return value

    def wants_step(self, step: int | None) -> bool:
        return self.steps is None or step is None or (step not in self.unmatched and self._counted(step) in self.steps)

    def saw(self, name: str, tensor: torch.Tensor) -> None:
        """Pass on what a function returned, at the steps that are wanted."""
        if self.steps is None or self.step is None or self.step in self.steps:
            self.look(name, tensor)

    def _counted(self, step: int | None) -> int | None:
        """The number of a step where those that the other side leaves out do not count."""
        return step if step is None else step - sum(left < step for left in self.unmatched)

    def _named(self, branch: str | None) -> str | None:
        return None if self.guided_alone and branch == "cond" else branch

    def module_hook(self, name: str, component: str):
        """A forward hook that records (and may replace) the outputs of one module under its name."""
        in_loop = stage_of("modules", name) == "model_forward"

        def hook(_module, _args, output):
            step = (self.running or 0) if in_loop else None
            if not self.wants_step(step):
                return None
            branch = self.branch if in_loop else None
            if isinstance(output, torch.Tensor):
                return self.observe("modules", output, step=step, branch=branch, module=name, component=component)
            if type(output) in (tuple, list):
                parts = [self.observe("modules" if i == 0 else f"modules/{i}", part, step=step, branch=branch,
                                      module=name, component=component)
                         if isinstance(part, torch.Tensor) else part for i, part in enumerate(output)]  # fmt: skip
                return type(output)(parts)
            return None

        return hook

    @contextlib.contextmanager
    def hooked_modules(self, components: dict[str, torch.nn.Module]):
        """Hooks on the modules that the globs name; gone afterwards, also when the run raised."""
        handles = []
        try:
            for component, root in components.items():
                if not isinstance(root, torch.nn.Module) or not self.modules:
                    continue
                for dotted, module in root.named_modules():
                    name = f"{component}/{dotted}" if dotted else component
                    if dotted and any(fnmatch.fnmatchcase(name, glob) for glob in self.modules):
                        handles.append(module.register_forward_hook(self.module_hook(name, component)))
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextlib.contextmanager
    def listen(self, side_object):
        """Everything needed to record one run of `side_object`: taps, its modules, and diffusers' probe points."""
        from whydiff.evidence.recording.diffusers_probes import has_probes, probes

        if getattr(type(side_object), "elsewhere", False):  # whoever runs it there shows it to this recorder
            yield self
            return
        components = dict(getattr(side_object, "components", None) or {})
        with contextlib.ExitStack() as stack:
            stack.enter_context(functions_of({name: components[name] for name in self.looked_at}, self.look and self.saw))
            stack.enter_context(taps.listening(self))
            stack.enter_context(self.hooked_modules(components))
            if has_probes(side_object):
                stack.enter_context(probes(side_object, self))
            yield self


@contextlib.contextmanager
def record(pipeline_or_callable, out=None, *, modules: list[str] = (), **options):
    """Record what runs inside the context: ``with whydiff.record(pipe) as trace: pipe("a red circle")``.

    With `out` it goes into that folder, event by event, and not into memory; `options` are those of `standalone.recording`.
    """
    if out is not None:
        from whydiff.evidence.recording.standalone import record as into_folder

        with into_folder(pipeline_or_callable, out, modules=modules, **options) as recorder:
            yield recorder.trace
        return
    recorder = Recorder(modules=modules)
    with recorder.listen(pipeline_or_callable):
        yield recorder.trace
