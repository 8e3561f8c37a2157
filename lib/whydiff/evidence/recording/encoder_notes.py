"""What a recording notes of its text encoders, as numbers in its first line: how they were called, and where their states lie.

Hidden states are too large to keep. A few tokens of each, projected onto a few fixed vectors, tell the layers apart, and
say whether two sides' encoders made the same ones.
"""

from __future__ import annotations

import contextlib
import inspect

import torch

PROJECTIONS = 4
MOST_CALLS = 8  # of encoders in one run that are noted
_EPS = ("eps", "variance_epsilon", "epsilon")


def sampled(length: int) -> list[int]:
    """The tokens that are noted of a row of `length`: the first four, and four spread over the rest."""
    return sorted({i for i in (0, 1, 2, 3, length // 4, length // 2, 3 * length // 4, length - 1) if 0 <= i < length})


def projected(states: torch.Tensor) -> torch.Tensor:
    """(..., D) -> (..., PROJECTIONS) float64: inner products with fixed vectors of ±1, over sqrt(D)."""
    size = states.shape[-1]
    signs = torch.randint(0, 2, (size, PROJECTIONS), generator=torch.Generator().manual_seed(size), dtype=torch.int64)
    return states.detach().cpu().double() @ (2.0 * signs.double() - 1) / size**0.5


def install(module: torch.nn.Module, component: str, trace, stack: contextlib.ExitStack) -> None:
    """Note each call of a text encoder in `trace.encoders` until the stack ends.

    Blocks are the entries of the module's longest ModuleList; the final norm is the first weighted module behind them.
    """
    lists = [m for m in module.modules() if isinstance(m, torch.nn.ModuleList) and len(m)]
    if not lists:
        return
    call = _Call(module, component, trace)
    handles = [module.register_forward_pre_hook(call.begin, with_kwargs=True), module.register_forward_hook(call.end)]
    blocks = max(lists, key=len)
    inner = {id(m) for entry in lists for m in entry.modules()}
    for block in blocks:
        handles.append(block.register_forward_hook(call.block, with_kwargs=True))
    norms = [m for m in blocks[0].modules() if _eps(m) is not None and getattr(m, "weight", None) is not None]
    if norms:
        handles.append(norms[0].register_forward_hook(call.norm))
    for leaf in module.modules():
        if id(leaf) not in inner and not any(True for _ in leaf.children()) and any(True for _ in leaf.parameters()):
            handles.append(leaf.register_forward_hook(call.leaf))
    for handle in handles:
        stack.callback(handle.remove)


def _eps(module) -> float | None:
    return next((float(v) for name in _EPS if isinstance(v := getattr(module, name, None), float)), None)


class _Call:
    """One encoder's call in progress: the sampled tokens of its states, (B, T, D) each."""

    def __init__(self, module, component: str, trace):
        self.module, self.component, self.trace = module, component, trace
        self.ids: torch.Tensor | None = None

    def begin(self, module, args, kwargs):
        self.ids = None
        with contextlib.suppress(TypeError, ValueError):
            self.given = inspect.signature(module.forward).bind_partial(*args, **kwargs).arguments
            ids = self.given.get("input_ids")
            if isinstance(ids, torch.Tensor) and ids.dim() == 2 and len(self.trace.encoders) < MOST_CALLS:
                self.ids, self.picks = ids, sampled(ids.shape[1])
        self.states, self.first_norm, self.final = [], None, None

    def _tokens(self, value) -> torch.Tensor | None:
        whole = isinstance(value, torch.Tensor) and self.ids is not None and value.dim() == 3 and value.shape[:2] == self.ids.shape
        return value[:, self.picks].detach() if whole and value.is_floating_point() else None

    def block(self, _module, args, kwargs, output):
        made = self._tokens(output[0] if isinstance(output, (tuple, list)) and output else output)
        if made is None:
            return
        if not self.states:
            before = next((t for v in (*args, *kwargs.values()) if (t := self._tokens(v)) is not None), None)
            if before is None:
                return
            self.states.append(before)
        self.states.append(made)
        self.final = None

    def leaf(self, module, _args, output):
        if self.states and self.final is None and self._tokens(output) is not None:
            self.final = module

    def norm(self, module, args, output):
        before, after = (self._tokens(v) for v in (args[0] if args else None, output))
        if self.first_norm is not None or before is None or after is None:
            return
        bias = getattr(module, "bias", None)
        wide = before.double()
        self.first_norm = {"eps": _eps(module), "variance": _rows(wide.var(-1, correction=0)), "square": _rows((wide**2).mean(-1)),
                           "before": _rows(projected(before)), "after": _rows(projected(after if bias is None else after - bias))}  # fmt: skip

    def end(self, *_):
        if self.ids is None or not self.states:
            return
        entry = {"component": self.component, "ids": self.ids.tolist(), "tokens": self.picks, "dtypes": dtypes(self.module),
                 "eps": sorted({e for m in self.module.modules() if (e := _eps(m)) is not None}), "masked": self._masked(),
                 "states": [_rows(projected(s)) for s in self.states], "first_norm": self.first_norm, "normed": None}  # fmt: skip
        if self.final is not None:
            with torch.no_grad(), contextlib.suppress(Exception):  # a layer that does not work token by token is no norm
                entry["normed"] = [_rows(projected(self.final.forward(s))) for s in self.states]
        self.trace.encoders.append(entry)
        self.ids, self.states = None, []

    def _masked(self) -> int | None:
        """How many tokens the mask leaves out; None without a mask."""
        mask = self.given.get("attention_mask")
        return int((mask == 0).sum()) if isinstance(mask, torch.Tensor) and not mask.is_floating_point() else None


def dtypes(module: torch.nn.Module) -> dict[str, list[str]]:
    """{dtype: last names of the modules whose parameters have it}."""
    found: dict[str, set[str]] = {}
    for path, parameter in module.named_parameters():
        found.setdefault(str(parameter.dtype).removeprefix("torch."), set()).add((path.split(".")[-2:] or [path])[0])
    return {word: sorted(names) for word, names in sorted(found.items())}


def _rows(values: torch.Tensor) -> list:
    """Nested lists of numbers with nine digits."""
    return [float(f"{v:.9g}") for v in values.tolist()] if values.dim() == 1 else [_rows(row) for row in values]
