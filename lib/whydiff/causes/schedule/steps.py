"""Which update rule took the candidate's steps? Every update is computed again with one thing changed at a time.

First what the sides' own schedulers say differently, then the values a key may have, then other solvers, then a step that is
made twice, left out, or looked up one place further down the list.
"""

from __future__ import annotations

import dataclasses

import torch

from whydiff.causes.finding import Explanation, Finding
from whydiff.causes.schedule import apart
from whydiff.causes.schedule.defects import DEFECTS
from whydiff.causes.schedule.keys import alternatives, cause_of
from whydiff.causes.schedule.recipe import Recipe, public_classes, recipe
from whydiff.causes.schedule.replay import Loop, loop, replay
from whydiff.causes.table import BY_ID
from whydiff.evidence.floor import STANDS_OUT, own_ulp
from whydiff.measure.compare import relative_l2

_OTHER = {"reference": "candidate", "candidate": "reference"}


@dataclasses.dataclass
class Bench:
    """Both sides' recipes and loops, and what their updates gave: `made(role, recipe)` asks whether a recipe reproduces a side."""

    lab: object
    finding: Finding | None
    recipes: dict[str, Recipe | None]
    loops: dict[str, Loop | None]

    def seen(self, role: str, place) -> torch.Tensor | None:
        held = getattr(self.finding, role) if self.finding is not None else {}
        return held[place] if place in held else self.lab.own_value(role, place)

    def made(self, role: str, made: Recipe, defect=None) -> bool:
        """Does a recipe, on the inputs of a side's updates, give that side's latents at every step?"""
        given = self.loops[role]
        return given is not None and replay(made, given, lambda place, value: self._close(self.seen(role, place), value), defect)

    def scaled(self, role: str, made: Recipe) -> bool:
        """As `made`, and does the recipe also scale what the side's network receives?"""
        given = self.loops[role]
        if given is None:
            return False
        received = self.lab.traces[role].at("latent_model_input")

        def receives(k: int, value) -> bool:
            return all(self._close(self.lab.own_value(role, p), value) for p in received if p.step == k and p.occurrence == 0)

        return bool(received) and replay(made, given, lambda place, value: self._close(self.seen(role, place), value), receives=receives)

    def _close(self, seen, value) -> bool:
        if seen is None or seen.numel() != value.numel():
            return False
        floor = self.finding.floor if self.finding is not None else 0.0
        lost = ~value.isfinite()
        if lost.any():  # a last step to sigma 0 may leave infinities on purpose: they must be at the same elements
            same = torch.equal(lost, ~seen.reshape(value.shape).isfinite())
            seen, value = seen.reshape(value.shape).masked_fill(lost, 0), value.masked_fill(lost, 0)
            return same and (not seen.any() or relative_l2(seen, value) <= STANDS_OUT * max(floor, own_ulp(seen)))
        return relative_l2(seen.reshape(value.shape), value) <= STANDS_OUT * max(floor, own_ulp(seen))


def bench(lab, finding: Finding | None = None) -> Bench:
    roles = ("reference", "candidate")
    return Bench(lab, finding, {r: recipe(lab, r) for r in roles}, {r: loop(lab, r) for r in roles})


def repairs(lab, fixed: Recipe, theirs: Recipe) -> set[str]:
    """Probes of the loop at which the candidate does what its recipe says, and the reference what the repaired one says."""
    table = bench(lab)
    probes = {"latents"} if table.made("candidate", theirs) and table.made("reference", fixed) else set()
    if probes and table.scaled("candidate", theirs) and table.scaled("reference", fixed):
        probes.add("latent_model_input")
    return probes


def explain(finding: Finding, lab) -> list[Explanation]:
    if finding.place not in finding.candidate:
        return []
    table = bench(lab, finding)
    mine, theirs = table.recipes["reference"], table.recipes["candidate"]
    if None in table.loops.values():
        return []
    own = {role: made is not None and table.made(role, made) for role, made in table.recipes.items()}
    if own["reference"] and own["candidate"]:
        begun = other_begin(table)
        if begun:
            return begun
        keys = apart.smallest(mine, theirs, lambda made: table.made("reference", made))
        return [] if keys is None or any(k.startswith(apart.ARGUMENT) for k in keys) else [_own_difference(keys, mine, theirs)]
    for role in ("reference", "candidate"):
        if own[role] and not table.made(_OTHER[role], table.recipes[role]):
            found = _reproducing(table, role)
            if found:
                return [_changed(table, role, found)]
    return []


def other_begin(table: Bench) -> list[Explanation]:
    """Both sides do what their schedulers say, but begin at another entry of the list: the candidate, begun where the
    reference begins, makes the reference's updates."""
    mine, theirs = table.loops["reference"], table.loops["candidate"]
    if mine.begin == theirs.begin or None in (mine.begin, theirs.begin) or mine.timesteps != theirs.timesteps:
        return []
    moved = dataclasses.replace(table, loops=table.loops | {"reference": dataclasses.replace(mine, begin=theirs.begin)})
    if not table.made("reference", table.recipes["candidate"]) or moved.made("reference", table.recipes["candidate"]):
        return []
    scaled = all(table.scaled(role, table.recipes[role]) for role in ("reference", "candidate"))
    return [Explanation(
        id="duplicate-timestep-begin-index", departs="unknown", stage="schedule", explained=1.0,
        statement=f"candidate's loop begins at entry {theirs.begin} of the list, the reference's at {mine.begin}, with the same timestep",
        relation={"kind": "begin_index", "reference": mine.begin, "candidate": theirs.begin},
        experiment=f"computed every update again, the candidate's begun at entry {mine.begin}: equals the reference's latents; begun at "
                   f"{theirs.begin}, it equals the candidate's",
        fix="set the begin index where the list of timesteps is cut (set_begin_index), and do not search it for the timestep",
        covers={"latent_model_input"} if scaled else set())]  # fmt: skip


def _own_difference(keys: list[str], mine: Recipe, theirs: Recipe) -> Explanation:
    return apart.explanation(
        keys, mine, theirs,
        experiment=f"computed every update again from the recorded predictions, the candidate's scheduler with the reference's {', '.join(keys)}: "
                   "equals the reference's latents; without, it equals the candidate's")  # fmt: skip


def _reproducing(table: Bench, role: str) -> list[tuple[str, str, dict, str]]:
    """(id, words, relation, fix) of each change of a side's recipe that reproduces the other side's updates."""
    own, other = table.recipes[role], _OTHER[role]
    told, found = table.recipes[other], []
    for key, value in alternatives(own):
        if table.made(other, own.with_config(**{key: value})):
            now = own.config.get(key, own.default(key))
            also = ""
            if told is not None and key in told.config and told.config[key] == now:
                also = f", although both configurations say {apart.spelled(now)}"
            found.append((cause_of(key), f"those of {key} {apart.spelled(value)}, the {role}'s of {apart.spelled(now)}{also}",
                          {"kind": "scheduler_config", "keys": [key], role: {key: apart.plain(now)}, other: {key: apart.plain(value)}},
                          f"use {key} {apart.spelled(now)} in the {other}'s updates"))  # fmt: skip
    if found:
        return found
    for defect in DEFECTS:
        for told_so in defect(table, role):
            found.append(told_so)
    if found:
        return found
    for name, kind in public_classes().items():
        if kind is not own.kind and table.made(other, own.with_kind(kind)):
            found.append(("solver-class", f"those of {name}, the {role}'s of {own.name}",
                          {"kind": "solver", role: own.name, other: name}, f"step with {own.name} in the {other}"))
    return found


def _changed(table: Bench, role: str, found: list) -> Explanation:
    id_, words, relation, fix = found[0]
    other = _OTHER[role]
    return Explanation(
        id=id_, equivalent=list(dict.fromkeys(i for i, *_ in found[1:] if i != id_)), departs=other, stage=BY_ID[id_].stage,
        explained=1.0, statement=f"{other}'s updates are {words}", relation=relation, fix=fix,
        experiment=f"computed every update again from the recorded predictions with the {role}'s scheduler, that one thing changed: equals the "
                   f"{other}'s latents at every step; unchanged, it equals the {role}'s")  # fmt: skip
