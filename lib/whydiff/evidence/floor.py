"""The noise floor: how far the reference is from itself when nothing is wrong, measured at every place.

Three measurements: the same run repeated; the same run with every value it passes on, and every module's output, moved
by one unit in the last place (rounding is then drawn anew everywhere, as another kernel would do); and the same with
each stage fed the recorded values, so that only what a stage *adds* is seen and not what it inherits. At least one unit
in the last place of the recorded values themselves is always allowed: two correct formulas may round differently.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math

import torch

from whydiff.evidence.traces.trace import Trace
from whydiff.measure.compare import relative_l2
from whydiff.places import Place, family

# How many floors a difference must exceed. Measured, not chosen: see docs/decisions/0002-noise-floor.md, which gives
# the largest ratio seen between healthy implementations and the false-alarm rate at this factor.
STANDS_OUT = 12.0
ULP_RUNS = 2

_ONE_SIDED = {"sigmas", "timesteps", "alphas_cumprod", "step_noise"}  # a sigma of 1 must not become more than 1


def one_ulp(tensor: torch.Tensor, generator: torch.Generator, *, downwards: bool = False, dtype=None) -> torch.Tensor:
    """`tensor` with every element moved by one unit in the last place of `dtype` (its own by default), up or down.

    Integer and boolean tensors are returned as they are: they have no rounding.
    """
    if not tensor.is_floating_point():
        return tensor
    eps = torch.finfo(dtype or tensor.dtype).eps
    direction = torch.randint(0, 2, tensor.shape, generator=generator).to(torch.float64)
    direction = direction - 1 if downwards else 2 * direction - 1
    return (tensor.to(torch.float64) * (1 + eps * direction)).to(tensor.dtype)


def own_ulp(tensor: torch.Tensor) -> float:
    """Relative L2 distance of a tensor from itself moved by one unit in the last place: epsilon of its dtype, or 0."""
    return torch.finfo(tensor.dtype).eps if tensor.is_floating_point() else 0.0


def mover(source: Trace | None, seed: int, dtype=None):
    """A `substitute` that moves each value by one ulp: the run's own value, or the one recorded in `source`."""
    generator = torch.Generator().manual_seed(seed)

    def substitute(place: Place, own: torch.Tensor):
        value = own
        if source is not None:
            event = source.events.get(place)
            value = own if event is None or event.tensor.shape != own.shape else event.tensor
        return one_ulp(value, generator, downwards=family(place.probe) in _ONE_SIDED, dtype=dtype)

    return substitute


@contextlib.contextmanager
def shaking(components: dict, seed: int):
    """Every innermost module of `components` puts out values moved by one ulp: rounding inside a network is drawn anew, too,
    as another kernel or memory format would do."""
    generator = torch.Generator().manual_seed(seed)
    handles = []

    def hook(_module, _args, output):
        return one_ulp(output.cpu(), generator).to(output.device) if isinstance(output, torch.Tensor) else None

    try:
        for root in components.values():
            for module in root.modules() if isinstance(root, torch.nn.Module) else ():
                if not any(True for _ in module.children()):
                    handles.append(module.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclasses.dataclass
class Floor:
    """Relative L2 floors per place: of whole runs (`inherited`) and of single stages on given inputs (`added`)."""

    inherited: dict[Place, float]
    added: dict[Place, float]
    source: str = "measured"

    def of_run(self, place: Place, tensor: torch.Tensor) -> float:
        return max(self.inherited.get(place, 0.0), own_ulp(tensor))

    def of_stage(self, place: Place, tensor: torch.Tensor) -> float:
        return max(self.added.get(place, 0.0), own_ulp(tensor))

    def per_probe(self) -> dict[str, float]:
        """The largest inherited floor of each probe over its steps: what a trace stores."""
        floors: dict[str, float] = {}
        for place, value in self.inherited.items():
            floors[place.probe] = max(floors.get(place.probe, 0.0), value)
        return floors


def widen(floors: dict[Place, float], reference: Trace, other: Trace) -> None:
    """Raise `floors` to the distance between two recordings of the same thing."""
    for place, event in other.events.items():
        mine = reference.events.get(place)
        if mine is None or mine.tensor.shape != event.tensor.shape:
            continue
        distance = relative_l2(mine.tensor, event.tensor)
        if math.isfinite(distance):
            floors[place] = max(floors.get(place, 0.0), distance)
        else:
            floors.setdefault(place, 0.0)


# A healthy stage moves its output by 1 to 140 units in the last place (docs/decisions/0002-noise-floor.md); a float32 one that
# computes in 16 bit inside by 30,000 and more. In between, the other side is asked.
LOUD = 512
QUIETER = 16


def loud(floors: dict[Place, float], trace: Trace) -> bool:
    """Is some place's own noise more than the type of its values accounts for?"""
    return any(value > LOUD * own_ulp(trace[p]) > 0 for p, value in floors.items() if p in trace)


def quieten(floors: dict[Place, float], other: dict[Place, float]) -> bool:
    """Where another implementation of the same thing is far quieter, its floor is what rounding costs. True where any was lowered."""
    lower = {p: other[p] for p, value in floors.items() if p in other and value > QUIETER * max(other[p], 1e-12)}
    floors |= lower
    return bool(lower)


def stored_floor(trace: Trace) -> Floor:
    """The floor that came with a recorded trace; `derived` from dtype epsilon alone where none was measured."""
    floors = {place: trace.floor.get(place.probe, 0.0) for place in trace.places}
    return Floor(inherited=floors, added={}, source="stored" if trace.floor else "derived")


def image_floor(reference: torch.Tensor, decoded_floor: float) -> float:
    """The floor of an 8-bit image whose float values are uncertain by `decoded_floor` (relative).

    A value within that uncertainty of a rounding border flips by one level of 255. The number of flips is Poisson with
    mean n · 2 · 255 · uncertainty; five standard deviations and one flip are allowed on top.
    """
    return flips_floor(reference.numel(), reference.double().norm().item(), decoded_floor)


def flips_floor(n: int, norm: float, decoded_floor: float) -> float:
    """As `image_floor`, of an image of which the number of values and their norm are known."""
    mean = n * min(1.0, 2 * 255 * decoded_floor * norm / math.sqrt(n)) if n else 0.0
    flips = mean + 5 * math.sqrt(mean) + 1
    return math.sqrt(flips) / 255 / norm if norm else 0.0
