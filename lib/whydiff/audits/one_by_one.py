"""How far does each defect of a build take the picture by itself, and how far do all of them together?"""

from __future__ import annotations

import dataclasses

from whydiff.audits.result import Table
from whydiff.errors import Trouble
from whydiff.evidence.case import Case
from whydiff.evidence.sides.loading import load_side
from whydiff.measure.compare import relative_l2


@dataclasses.dataclass(frozen=True)
class Alone:
    """A build argument and what it does: `difference` is the relative L2 of the picture from that of the bare build."""

    argument: str
    value: object
    difference: float


def alone(case: Case, role: str = "candidate", keep: tuple[str, ...] = ()) -> list[Alone]:
    """Runs one side with each of its `build` arguments alone, and with all; the bare build is what they are held against.

    `keep`: arguments that belong to every run. Raises Trouble where the side is not live. The last entry is all together.
    """
    live = getattr(case, role).live
    if live is None:
        raise Trouble(f"{role}: only a side that can be run shows what each of its build arguments does.")
    always = {key: live.build[key] for key in keep}
    switches = {key: value for key, value in live.build.items() if key not in keep}
    bare = _picture(case, role, always)
    found = [Alone(key, value, relative_l2(bare, _picture(case, role, always | {key: value}))) for key, value in switches.items()]
    return [*found, Alone("all together", "", relative_l2(bare, _picture(case, role, live.build)))]


def table(found: list[Alone]) -> Table:
    return Table(("build argument", "value", "picture moves by (relative L2)"), tuple((a.argument, a.value, a.difference) for a in found))


def _picture(case: Case, role: str, build: dict):
    side = getattr(case, role)
    changed = side.model_copy(update={"live": side.live.model_copy(update={"build": build})})
    return load_side(case.model_copy(update={role: changed}), role).run()["image"]
