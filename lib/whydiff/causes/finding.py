"""What the walk hands to an experiment, and what an experiment hands back."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch

from whydiff.measure.compare import relative_l2
from whydiff.places import Place

# What a finding is about: values that differ; an argument that only one network receives; a number of network evaluations.
VALUES, ABSENT, CALLS = "values", "absent", "calls"


@dataclasses.dataclass
class Finding:
    """One probe that stands out although everything before it was made equal: something goes wrong right here.

    `reference` and `candidate` hold the tensors of all its places, each pair in one shape; `candidate` is what the
    patient made of the reference's inputs. `difference` and `floor` belong to the first place that stands out.
    """

    probe: str
    places: list[Place]  # those that stand out, in walking order
    reference: dict[Place, torch.Tensor]
    candidate: dict[Place, torch.Tensor]
    difference: float | None
    floor: float
    why: str = ""
    kind: str = VALUES
    inside: dict[str, Any] | None = None  # the module that makes the difference, where it was found, with its own figures
    culprit: Any = None  # that module with its recorded calls, as `causes.inside` keeps it

    @property
    def place(self) -> Place:
        return self.places[0]

    @property
    def key(self) -> str:
        """What tells findings apart once they are settled: two may be about one probe."""
        return self.probe if self.kind == VALUES else f"{self.kind} {self.probe}"

    @property
    def pairs(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [(self.reference[p], self.candidate[p]) for p in self.places if p in self.candidate]

    def stacked(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Reference and candidate over all places that stand out, as two flat float64 vectors."""
        pairs = self.pairs
        return (torch.cat([a.flatten().to(torch.float64) for a, _ in pairs]),
                torch.cat([b.flatten().to(torch.float64) for _, b in pairs]))  # fmt: skip

    def locate(self, culprit) -> None:
        """The difference is made by this module (a `causes.inside.inside.Inside`)."""
        self.inside, self.culprit = culprit.to_dict(), culprit

    def to_dict(self, floor_source: str = "measured") -> dict:
        entry = self.place.to_dict() | {"difference": self.difference, "noise_floor": self.floor, "floor_source": floor_source}
        if self.why:
            entry["why"] = self.why
        return entry

    def inmost(self, floor_source: str = "measured") -> dict:
        """As `to_dict`, for the module inside the network where one was found."""
        if self.inside is None:
            return self.to_dict(floor_source)
        return self.to_dict(floor_source) | {"probe": "modules"} | self.inside


@dataclasses.dataclass
class Explanation:
    """A cause and the experiment that shows it.

    `changes` are call arguments whose change repairs the candidate, where that is better than putting tensors in place;
    `covers` are further probes that the same experiment explains.
    """

    id: str
    statement: str
    relation: dict[str, Any]
    explained: float
    experiment: str
    fix: str
    departs: str = "candidate"
    equivalent: list[str] = dataclasses.field(default_factory=list)
    module: str | None = None
    stage: str | None = None
    probe: str | None = None  # where the cause acts, if that is not where it was found (settings)
    changes: dict[str, Any] = dataclasses.field(default_factory=dict)
    covers: set[str] = dataclasses.field(default_factory=set)
    supplies: set[str] = dataclasses.field(default_factory=set)  # arguments of the network that the repair passes or leaves out
    unmatched: dict[str, list[int]] = dataclasses.field(default_factory=dict)  # steps of a side's loop that the other's leaves out
    guided_alone: str | None = None  # the side whose network has a branch that the other's lacks
    dtype: torch.dtype | None = None  # the repair is to run the candidate's modules in this type


# A number solved from float32 values is known to a few 1e-6 (their rounding, amplified by the fit), and settings that people
# type differ by more than this. It decides what a fitted number is called, never whether a fit is accepted.
SAME_PARAMETER = 1e-4


def same_parameter(a: float, b: float) -> bool:
    """Is a fitted number the one that is stated?"""
    return math.isclose(a, b, rel_tol=SAME_PARAMETER, abs_tol=SAME_PARAMETER)


def number(value: float) -> str:
    """A fitted parameter in words: 3.0, 0.001; what is counted stays whole: 1024."""
    if isinstance(value, int):
        return str(value)
    return f"{float(value):.6g}" if float(value) != int(float(value)) else f"{float(value):.1f}"


def explained_share(reference: torch.Tensor, before: torch.Tensor, after: torch.Tensor) -> float:
    """1 − ‖reference − after‖² / ‖reference − before‖²; 1.0 where nothing was left to explain."""
    gap = relative_l2(reference, before)
    left = relative_l2(reference, after)
    if not math.isfinite(gap) or gap == 0:
        return 1.0 if left == 0 else 0.0
    return 1.0 - (left / gap) ** 2 if math.isfinite(left) else 0.0
