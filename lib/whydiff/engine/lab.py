"""The lab: runs the sides, keeps what was recorded, and puts one side's values into the other."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

import torch

from whydiff.engine.alone import Alone, Store
from whydiff.engine.casting import cast
from whydiff.errors import OutOfRuns, Trouble
from whydiff.evidence.case import Case
from whydiff.evidence.floor import STANDS_OUT, Floor, own_ulp
from whydiff.evidence.readers import read_evidence
from whydiff.evidence.recording.recorder import NOTHING, Recorder
from whydiff.evidence.sides.memory import leaves_room
from whydiff.evidence.sides.runnable import RunnableSide
from whydiff.evidence.surroundings.configurations import configurations
from whydiff.evidence.traces.image_file import image_trace
from whydiff.evidence.traces.trace import Trace
from whydiff.measure.compare import relative_l2
from whydiff.measure.layouts import Layout
from whydiff.measure.shards import Assembly
from whydiff.places import Place

OTHER = {"reference": "candidate", "candidate": "reference"}


class Lab:
    """Two sides, their runs, and the floor between them. `said` receives a line for each piece of work (progress)."""

    def __init__(self, case: Case, said: Callable[[str], None] = lambda text: None, apart: bool | None = None, store: Store | None = None):
        self.case, self.said, self.store = case, said, store or Store()
        self.apart = apart  # only one side in memory at a time; None: where both do not fit
        self.sides: dict[str, RunnableSide | None] = {"reference": None, "candidate": None}
        self.traces: dict[str, Trace | None] = {"reference": None, "candidate": None}
        self.alone: dict[str, Alone] = {role: Alone() for role in OTHER}  # what each side shows by itself
        self.between: dict[str, Trace] = {}  # each side's run of another request
        self.repeats: dict[str, Trace] = {}  # and its run of the first request after that
        self.held_before: dict[str, dict] = {}  # checksums of weights and arguments before the first run
        self.evidence: dict[str, str] = {}
        self.floor = Floor({}, {}, "derived")
        self.layouts: dict[str, Layout] = {}  # probe -> how the candidate's tensor becomes the reference's
        self.runs = 0
        self.last_forced: Trace | None = None
        self.changes: dict = {}  # call arguments that repair the patient as far as is known
        self.settled_arguments: set[str] = set()  # arguments of the patient's network that are passed as on the other side
        self.named_dtypes: list[tuple[torch.dtype, str]] = []  # lower precisions named as a cause, and the stage at which each shows
        self.twins_of_each_other = False
        self.unrepaired: list[Place] = []  # places whose repair was lost in the candidate's own dtype
        self.unshaped: list[Place] = []  # unexplained, of other shapes: nothing was put in place there
        self.renamed: dict[Place, str] = {}  # the reference's place -> what the candidate's recording calls it
        self.by_order: dict[Place, Place] = {}  # those of them that size and order alone pair, and the candidate's own place
        self.lost_shards: dict[Place, tuple[str, Assembly]] = {}  # the side whose ranks do not hold all of a tensor, and what they hold
        self.notes: list[str] = []
        self.modules_compared: dict[str, dict] = {}  # by stage: how many outputs of modules were paired, and which were not
        self.ignored: set[str] = set()  # keys of `declares` that do not count
        self.exhausted = False  # the runs of a budget are used up
        self.floor_role: str | None = None
        self.declared: list[dict] = []  # what declared precisions cost, place by place
        self.repaired_all = None  # the run with all causes repaired (engine.repaired)
        self._forced_with = None
        self._autocast: dict[tuple, Trace | None] = {}
        self._twins: dict[tuple, Trace | None] = {}

    # --- gathering ---------------------------------------------------------------------------------------------

    def load(self) -> None:
        for role, side in self.case.sides().items():
            if side.live:
                self.said(f"loading {role}")
                self._make_room()
                self.sides[role] = self.store.load(self.case, role)
                self.alone[role] = self.store.alone(self.case, role)
                self.evidence[role] = "live"
            elif side.trace:
                self.said(f"reading the trace of {role}")
                trace = self.traces[role] = read_evidence(self.case.resolve(side.trace))
                self.notes += [] if trace.complete else [f"the trace of {role} was cut short, so later places may be missing"]
                self.evidence[role] = "trace"
            elif side.image:
                self.evidence[role] = "image"
                self.traces[role] = image_trace(self.case.resolve(side.image), role)
            else:
                self.evidence[role] = "settings"
        for role in OTHER if self.apart else ():
            self.sides[role].instead_of = self.sides[OTHER[role]]
        self.twins_of_each_other = self._same_thing()

    def _make_room(self) -> None:
        """Give up the side that is loaded before the other is, where both do not fit into memory or that was asked for."""
        first = self.sides["reference"]
        live = self.case.candidate.live
        if first is not None:
            again = first.can_be_made_again and live.object is None and live.python is None
            self.apart = again and (not leaves_room(first) if self.apart is None else self.apart)
        if first is not None and self.apart:
            first.give_up()
            self.notes.append("one side at a time was in memory: their weights and modules were not held against each other")

    def _same_thing(self) -> bool:
        """Do both sides hold the same code, configuration and weights? Asked before any run changes their state."""
        reference, candidate = self.sides["reference"], self.sides["candidate"]
        if reference is None or candidate is None:
            return False
        return (not self.apart and reference.subject is candidate.subject) or reference.identity() == candidate.identity()

    @contextlib.contextmanager
    def as_far_as_runs_allow(self, work: str):
        """Work that ends early, with a note, when the runs of a budget are used up."""
        try:
            yield
        except OutOfRuns as spent:
            self.exhausted = True
            self.notes.append(f"{spent}: {work} was not finished; a larger budget would tell more")

    def default_settings(self, role: str) -> dict:
        """What a side's framework uses when nothing is specified, for a case that names it under `defaults`."""
        side = getattr(self.case, role)
        if side.defaults is None:
            return {}
        from whydiff.evidence.surroundings.defaults import defaults_of

        return {fact.key: fact.value for fact in defaults_of(side.defaults.framework, side.defaults.version, side.defaults.model)}

    def run(self, role: str, *, substitute=None, changes=None, modules=(), steps=None, shaken: int | None = None,
            fill=None, notes=False) -> Trace:  # fmt: skip
        """One run of a side. `shaken`: the seed with which its modules' outputs are moved by one ulp; `fill`: what arguments
        that the side leaves out receive."""
        self.runs += 1
        return self.sides[role].run(Recorder(substitute=substitute, modules=modules, steps=steps, fill=fill, notes=notes), changes, shaken)

    def record_both(self, notes: bool = False) -> None:
        """The first run of each live side; with `notes` of its text encoders, for a trace that is kept."""
        for role, side in self.sides.items():
            if side is not None:
                self.said(f"running {role}")
                alone, record = self.alone[role], self.case.record
                self.held_before[role] = alone.held_before(side)
                self.traces[role] = alone.run("first", side, partial(self.run, role, modules=record.modules, steps=record.steps, notes=notes))

    # --- experiments -------------------------------------------------------------------------------------------

    @property
    def patient(self) -> str | None:
        """The side into which values are put: the candidate; the reference where only that is live; None without live sides."""
        return "candidate" if self.sides["candidate"] else "reference" if self.sides["reference"] else None

    def put_into(self, role: str, values: Trace, only: Callable[[Place], bool] = lambda place: True, supplied: set[str] = frozenset()):
        """A `substitute` for runs of `role` that puts recorded values at the places that `only` admits.

        Arguments named in `supplied` that are left out where `values` were recorded are left out.
        """
        foreign = values is not self.traces[role]

        def substitute(place: Place, own: torch.Tensor):
            if place.probe in supplied and place in values.absent:
                return NOTHING
            event = values.events.get(place) if only(place) else None
            if event is None:
                return None
            layout = self.layouts.get(place.probe) if foreign else None
            if layout is not None:
                return layout.invert(event.tensor) if role == "candidate" else layout.apply(event.tensor)
            return event.tensor if event.tensor.shape == own.shape or place.probe in self.sides[role].resized else None

        return substitute

    def forced(self, changes=None) -> Trace:
        """The patient's run with every stage fed the other side's values: what it records is what each stage adds."""
        self.changes = dict(changes or {})
        key = (repr(changes or {}), frozenset(self.settled_arguments))
        if self.last_forced is None or self._forced_with != key:
            self.last_forced, self._forced_with = self._forced(changes, self.settled_arguments), key
        return self.last_forced

    def supplied(self, arguments: set[str], changes=None) -> Trace:
        """As `forced`, with further arguments of the network passed, or left out, as on the other side."""
        return self._forced(changes, self.settled_arguments | arguments)

    def given(self, role: str, argument: str) -> Trace:
        """A side's run on its own recorded values, with one argument of its network as the other side passes it."""
        values = self.traces[OTHER[role]]
        return self.run(role, substitute=self.put_into(role, self.traces[role]), fill=filler(values, {argument}))

    def _forced(self, changes, arguments: set[str]) -> Trace:
        values = self.traces[OTHER[self.patient]]
        return self.run(self.patient, substitute=self.put_into(self.patient, values, supplied=arguments), changes=changes,
                        fill=filler(values, arguments))  # fmt: skip

    def repaired(self, probes: set[str], changes=None, arguments: set[str] = frozenset()) -> Trace:
        """The patient's run with the other side's values put at `probes`, and `arguments` passed as on the other side, alone."""
        values = self.traces[OTHER[self.patient]]
        put = self.put_into(self.patient, values, lambda place: place.probe in probes, arguments)
        return self.run(self.patient, substitute=put, changes=changes, fill=filler(values, arguments))

    def own_value(self, role: str, place: Place) -> torch.Tensor | None:
        """What a side itself makes at a place: from its last forced run if it is the patient, else from its trace."""
        trace = self.last_forced if role == self.patient and self.last_forced is not None else self.traces[role]
        event = None if trace is None else trace.events.get(place)
        return None if event is None else event.tensor

    def in_dtype(self, dtype: torch.dtype, changes=None) -> Trace | None:
        """The candidate's run with its modules cast to `dtype`; None if it cannot run so."""
        side = self.sides["candidate"]
        if side is None or not side.components:
            return None
        with cast(side.components, dtype), contextlib.suppress(Trouble):
            return self.run("candidate", changes=changes)
        return None

    def twin(self, dtype: torch.dtype, role: str = "reference") -> Trace | None:
        """What a side makes of the reference's recorded inputs when its modules are cast to `dtype`; None if it cannot."""
        key = (role, dtype)
        if key not in self._twins:
            side = self.sides[role]
            self._twins[key] = None
            if side is not None and side.components:
                self.said(f"running the {role} in {dtype}")
                own = self.traces["reference"]
                with cast(side.components, dtype), contextlib.suppress(Trouble):
                    self._twins[key] = self.run(role, substitute=self.put_into(role, own))
        return self._twins[key]

    def autocast(self, role: str, dtype: torch.dtype) -> Trace | None:
        """What a side makes of the reference's values, stage by stage, inside an autocast context; None if it cannot run so."""
        key = (role, dtype)
        if key not in self._autocast:
            device = next((p.device.type for m in self.sides[role].components.values() if isinstance(m, torch.nn.Module)
                           for p in m.parameters()), "cpu")  # fmt: skip
            self._autocast[key] = None
            with contextlib.suppress(Trouble, RuntimeError), torch.autocast(device, dtype=dtype):
                self._autocast[key] = self.run(role, substitute=self.put_into(role, self.traces["reference"]))
        return self._autocast[key]

    def twin_loss(self, place: Place, dtype: torch.dtype, role: str = "reference") -> float | None:
        """How far a side in `dtype` is from itself at a place, each stage on the reference's inputs."""
        twin = self.twin(dtype, role)
        own = self.traces["reference"][place] if role == "reference" and place in self.traces["reference"] else self.own_value(role, place)
        if twin is None or own is None or place not in twin or twin[place].shape != own.shape:
            return None
        return relative_l2(own, twin[place])

    def config(self, component: str, key: str):
        """The configuration of a component that knows `key`, from the first live side that has one; None otherwise."""
        for side in self.sides.values():
            holder = side.components.get(component) or getattr(side.subject, component, None) if side else None
            config = getattr(holder, "config", None)
            if hasattr(config, "get") and config.get(key) is not None:
                return config
        return None

    def component_config(self, role: str, component: str) -> tuple[str, dict] | None:
        """(class, configuration) of one side's component, live or as its trace tells; None where neither knows it."""
        side, trace = self.sides[role], self.traces[role]
        held = configurations(side.subject) if side is not None else {} if trace is None else trace.producer.get("components") or {}
        entry = held.get(component) if isinstance(held, dict) else None
        return (str(entry.get("class", "")), dict(entry.get("config") or {})) if isinstance(entry, dict) else None

    def closes(self, finding, target: torch.Tensor, after: torch.Tensor) -> bool:
        """True when `after` no longer stands out from `target`: the experiment closed the gap."""
        return relative_l2(target, after) <= STANDS_OUT * max(finding.floor, own_ulp(target))

    def stands_out(self, place: Place, reference: torch.Tensor, candidate: torch.Tensor) -> bool:
        """Does what a stage made at a place, on equal inputs, differ by more than its floor? Tensors of one shape."""
        return not relative_l2(reference, candidate) <= STANDS_OUT * self.floor.of_stage(place, reference)

    def differs_between_runs(self, place: Place, one: torch.Tensor, other: torch.Tensor) -> bool:
        """Do two whole runs of one side differ at a place by more than noise? Tensors of one shape."""
        return not relative_l2(one, other) <= STANDS_OUT * self.floor.of_run(place, one)

    def pair(self, place: Place, candidate: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Reference's and candidate's tensor at a place in one shape, or None where there is nothing to compare."""
        event = self.traces["reference"].events.get(place)
        if event is None:
            return None
        layout = self.layouts.get(place.probe)
        if layout is not None:
            try:
                candidate = layout.apply(candidate)
            except (ValueError, RuntimeError, Trouble):
                return None
        return (event.tensor, candidate) if event.tensor.shape == candidate.shape else None


def filler(values: Trace, arguments: set[str]) -> Callable[[Place], torch.Tensor | None] | None:
    """A `fill` for runs that gives the arguments named what they had where `values` were recorded."""

    def fill(place: Place) -> torch.Tensor | None:
        event = values.events.get(place) if place.probe in arguments else None
        return None if event is None else event.tensor

    return fill if arguments else None
