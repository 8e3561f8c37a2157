"""A side's text encoders looked into: what they were given, and the hidden states between their blocks.

Encoders are found by what they do: modules of a side that are called with token ids. Blocks are the entries of a
`ModuleList` that put out one vector per token; the final norm is the first module with weights that runs behind them
and keeps that shape.
"""

from __future__ import annotations

import contextlib
import dataclasses

import torch

from whydiff.causes.finding import Finding
from whydiff.causes.prompt.texts import run_until
from whydiff.evidence.recording.diffusers_probes import arguments_of
from whydiff.evidence.traces.trace import Trace

OTHER = {"reference": "candidate", "candidate": "reference"}


@dataclasses.dataclass
class Call:
    """One call of a text encoder: `states[k]` is the hidden state (B, L, D) behind k blocks, before the final norm."""

    component: str
    ids: torch.Tensor
    states: list[torch.Tensor]
    norm: torch.nn.Module | None = None

    @property
    def blocks(self) -> int:
        return len(self.states) - 1

    def normed(self, index: int) -> torch.Tensor | None:
        """The final norm of a hidden state, (B, L, D)."""
        if self.norm is None:
            return None
        weight = next(self.norm.parameters())
        with torch.no_grad():
            return self.norm(self.states[index].to(weight.device)).cpu()


def encoders(side) -> dict[str, torch.nn.Module]:
    """Modules that may be text encoders: all but the networks of the sampling loop and the autoencoder."""
    return {name: module for name, module in side.components.items()
            if isinstance(module, torch.nn.Module) and not name.startswith(("vae", "transformer", "unet", "controlnet"))
            and not {"timestep", "timesteps", "t"} & set(arguments_of(module))}  # fmt: skip


def encode(lab, role: str, finding: Finding, changes=None) -> Trace:
    """Run one side up to the finding's embeddings, the patient on the other side's token ids as in the walk."""
    values = lab.traces[OTHER[lab.patient]] if role == lab.patient else None
    substitute = lab.put_into(role, values, lambda place: place.probe.startswith(("input_ids", "attention_mask"))) if values else None
    return run_until(lab, role, finding.places[-1], changes=changes, substitute=substitute)


def looked_into(lab, role: str, finding: Finding) -> list[Call]:
    """The encoder calls of such a run, with their hidden states."""
    calls: list[Call] = []
    with contextlib.ExitStack() as stack:
        for name, module in encoders(lab.sides[role]).items():
            _Watch(name, module, calls, stack)
        encode(lab, role, finding)
    return calls


class _Watch:
    """Hooks on one module that note its calls with token ids."""

    def __init__(self, name: str, root: torch.nn.Module, calls: list[Call], stack: contextlib.ExitStack):
        self.name, self.calls = name, calls
        self.ids: torch.Tensor | None = None
        self.lists: dict[str, list[torch.Tensor]] = {}
        self.behind: list[tuple[torch.nn.Module, torch.Size]] = []
        hooks = [root.register_forward_pre_hook(self._begin, with_kwargs=True)]
        outer = [(n, m) for n, m in root.named_modules() if isinstance(m, torch.nn.ModuleList) and len(m)]
        outer = [(n, m) for n, m in outer if not any(n.startswith(f"{o}.") for o, _ in outer)]
        for n, blocks in outer:
            for block in blocks:
                hooks.append(block.register_forward_hook(self._block(n), with_kwargs=True))
        for n, module in root.named_modules():
            if not any(n.startswith(f"{o}.") for o, _ in outer) and not any(True for _ in module.children()):
                hooks.append(module.register_forward_hook(self._leaf))
        hooks.append(root.register_forward_hook(self._end))
        for hook in hooks:
            stack.callback(hook.remove)

    def _begin(self, _module, args, kwargs):
        whole = [v for v in (kwargs.get("input_ids"), *args, *kwargs.values()) if isinstance(v, torch.Tensor) and v.dim() == 2
                 and not v.is_floating_point() and v.dtype != torch.bool]  # fmt: skip
        self.ids = whole[0].detach().cpu().clone() if whole else None
        self.lists, self.behind = {}, []

    def _block(self, name: str):
        def hook(_module, args, kwargs, output):
            value = output[0] if isinstance(output, (tuple, list)) else output
            if self.ids is None or not self._per_token(value):
                return
            if name not in self.lists:
                first = next((v for v in (*args, *kwargs.values()) if self._per_token(v)), None)
                if first is None:
                    return
                self.lists[name] = [first.detach().cpu().clone()]
            self.lists[name].append(value.detach().cpu().clone())
            self.behind = []

        return hook

    def _per_token(self, value) -> bool:
        return isinstance(value, torch.Tensor) and value.dim() == 3 and value.is_floating_point() and value.shape[:2] == self.ids.shape

    def _leaf(self, module, _args, output):
        if self.lists and isinstance(output, torch.Tensor) and any(True for _ in module.parameters()):
            self.behind.append((module, output.shape))

    def _end(self, *_):
        if self.ids is None or not self.lists:
            return
        states = max(self.lists.values(), key=len)
        norm = next((module for module, shape in self.behind if shape == states[-1].shape), None)
        self.calls.append(Call(self.name, self.ids, states, norm))
