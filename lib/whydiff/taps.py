"""`tap`: one line in anybody's sampling code that shows a tensor to whydiff. Costs one comparison when nothing records."""

import sys

# This module, and its twin in the recorder that is one file: whoever listens hears the taps of both.
_TWINS = ("whydiff.taps", "whydiff_tap.taps")
# The object whose `observe_nested` sees every tap, or None; set by `listening` alone.
_listener = next((found for name in _TWINS if (found := getattr(sys.modules.get(name), "_listener", None)) is not None), None)


def tap(name, tensor, step=None, branch=None):
    """Show `tensor` under `name` and return it.

    During an experiment the return value is a fresh tensor of the same shape, dtype and device that holds the other
    side's values, so code that goes on with the *result* is observed and repaired by the same line. The argument is
    never written to. Lists, tuples and dicts are shown entry by entry as `name/0`, `name/key`.

    `step` counts sampler steps from 0; `branch` is "cond" or "uncond" where classifier-free guidance makes two calls.
    """
    if _listener is None:
        return tensor
    return _listener.observe_nested(name, tensor, step=step, branch=branch)


class listening:
    """Context in which `listener` receives every tap of this process. Contexts nest; the inner one wins."""

    def __init__(self, listener):
        self.listener = listener

    def __enter__(self):
        self.outer = _listener
        _hear(self.listener)
        return self.listener

    def __exit__(self, *_):
        _hear(self.outer)


def _hear(listener) -> None:
    for name in _TWINS:
        if name in sys.modules:
            sys.modules[name]._listener = listener
