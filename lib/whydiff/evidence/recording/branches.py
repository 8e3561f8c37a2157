"""Which branch of classifier-free guidance a network call is, and how a batched call of both is taken apart.

A part of a call is assigned by the prompt embeddings it received, never by its position: a pipeline that stacks them
the other way round is not thereby different, and one whose labels are swapped is found out.
"""

from __future__ import annotations

import torch


class Split:
    """How one network call is divided: `parts` are (branch, slice of the batch axis); `single` the only branch, or None."""

    def __init__(self, parts: list[tuple[str | None, slice]], batch: int):
        self.parts, self.batch = parts, batch

    @property
    def single(self) -> str | None:
        return self.parts[0][0] if len(self.parts) == 1 else None

    def rows_of(self, branch: str) -> tuple[slice, int] | None:
        """(the rows that a branch has in a call that holds several, the rows of the call); None where it holds one."""
        rows = dict(self.parts).get(branch)
        return None if rows is None or len(self.parts) == 1 else (rows, self.batch)

    def observe(self, recorder, probe, value, *, step, component):
        """Record one argument of the call under each branch and put the parts together again."""
        if isinstance(value, dict):
            return {key: self.observe(recorder, probe if probe.endswith(f"/{key}") else f"{probe}/{key}", entry, step=step,
                                      component=component) for key, entry in value.items()}  # fmt: skip
        if not isinstance(value, torch.Tensor):
            return value
        if len(self.parts) == 1 or value.dim() == 0 or value.shape[0] != self.batch:
            branch = self.parts[0][0]
            changed = recorder.observe(probe, value, step=step, branch=branch, component=component)
            for other, _ in self.parts[1:]:
                recorder.observe(probe, value, step=step, branch=other, component=component)
            return changed
        changed, touched = value, False
        for branch, rows in self.parts:
            part = value[rows]
            other = recorder.observe(probe, part, step=step, branch=branch, component=component)
            if other is None:
                return None
            if other is not part:
                changed = changed if touched else value.clone()
                changed[rows], touched = other, True
        return changed

    def observe_absent(self, recorder, probe, *, step):
        """Note that the call leaves an argument out; what an experiment puts there instead, or None."""
        values = [recorder.observe_absent(probe, step=step, branch=branch) for branch, _ in self.parts]
        if any(value is None for value in values):
            return None
        return values[0] if len(values) == 1 or values[0].dim() == 0 else torch.cat(values)

    def observe_output(self, recorder, value, *, step, component):
        """Record the network's output: `noise_pred_uncond` for the negative prompt, `noise_pred_text` otherwise."""
        changed, touched = value, False
        for branch, rows in self.parts:
            name = "noise_pred_uncond" if branch == "uncond" else "noise_pred_text"
            whole = len(self.parts) == 1
            part = value if whole else value[rows]
            other = recorder.observe(name, part, step=step, branch=branch, component=component)
            if whole:
                return other
            if other is not part:
                changed = changed if touched else value.clone()
                changed[rows], touched = other, True
        return changed


class Branches:
    """Tells which of the prompt embeddings of a run a network call received.

    `embeds` are those that the run goes on with, by probe: a recorder's, whether a probe point or a tap showed them.
    """

    def __init__(self, embeds: dict[str, torch.Tensor]):
        self.embeds = embeds
        self.last = Split([(None, slice(None))], 0)

    @property
    def known(self) -> dict[str, torch.Tensor]:
        return {"uncond" if name.startswith("negative") else "cond": embeds for name, embeds in self.embeds.items()}

    def of_call(self, arguments: dict) -> Split:
        """The split of a call with these arguments. Without a negative prompt in the run there is no branch."""
        self.last = self._split(arguments)
        return self.last

    def _split(self, arguments: dict) -> Split:
        main = next((v for v in arguments.values() if isinstance(v, torch.Tensor) and v.dim() > 0), None)
        batch = 0 if main is None else main.shape[0]
        whole = Split([(None, slice(None))], batch)
        if set(self.known) != {"cond", "uncond"}:
            return whole
        text = arguments.get("encoder_hidden_states")
        if not isinstance(text, torch.Tensor):
            return whole
        cond, uncond = self.known["cond"], self.known["uncond"]
        if text.shape[0] == cond.shape[0] + uncond.shape[0] and text.shape[1:] == cond.shape[1:] == uncond.shape[1:]:
            n = text.shape[0] - cond.shape[0]
            first, second = slice(0, n), slice(n, None)
            swapped = _distance(text[first], cond) < _distance(text[first], uncond)
            return Split([("cond" if swapped else "uncond", first), ("uncond" if swapped else "cond", second)], batch)
        if text.shape not in (cond.shape, uncond.shape):  # they were shown in another form than the network receives
            return whole
        branch = "uncond" if _distance(text, uncond) < _distance(text, cond) else "cond"
        return Split([(branch, slice(None))], batch)


def _distance(a: torch.Tensor, b: torch.Tensor) -> float:
    if a.shape != b.shape:
        return float("inf")
    return (a.detach().float() - b.to(a.device).float()).abs().mean().item()
