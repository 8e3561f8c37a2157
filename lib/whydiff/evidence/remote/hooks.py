"""The child's hooks on modules that have hooks in the parent: each call is shown there, and goes on with what comes back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch

from whydiff.evidence.remote.wire import Link


class Hooks(contextlib.ExitStack):
    """`told`: (module, shown before it runs, shown after it ran) for each. `phase` names the registrations that are meant.

    `inner`: nearest to the module's own code, as a recorder of calls registers them; otherwise furthest from it.
    """

    def __init__(self, link: Link, told: list, phase: str, now: Callable = lambda: (None, None), inner: bool = False):
        super().__init__()
        self.link, self.told, self.phase, self.now, self.inner = link, told, phase, now, inner

    def __enter__(self):
        super().__enter__()
        for module, before, after in self.told:
            if before:
                self.callback(module.register_forward_pre_hook(self._before, with_kwargs=True).remove)
            if after:
                self.callback(module.register_forward_hook(self._after, with_kwargs=True, prepend=self.inner).remove)
        return self

    def _before(self, module: torch.nn.Module, args, kwargs):
        given = self.link.ask("before", (self.phase, module, args, kwargs, self.now()))
        return None if given is None else (_refilled(args, given[0]), _refilled(kwargs, given[1]))

    def _after(self, module: torch.nn.Module, args, kwargs, output):
        given = self.link.ask("after", (self.phase, module, args, kwargs, output, self.now()))
        return None if given is None else _refilled(output, given[0])


def _refilled(own, given):
    """`given`, with its contents in the lists and dicts of `own`, which whoever passed them goes on to read."""
    if isinstance(own, tuple) and isinstance(given, tuple) and len(own) == len(given):
        return type(own)(map(_refilled, own, given)) if type(own) is tuple else given
    if type(own) is list and type(given) is list and len(own) == len(given):
        own[:] = map(_refilled, own, given)
        return own
    if type(own) is dict and type(given) is dict and own.keys() == given.keys():
        own.update({key: _refilled(value, given[key]) for key, value in own.items()})
        return own
    return given
