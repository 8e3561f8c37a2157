"""How a fault gets into a pipeline: the class of one object is replaced by an edited copy, as a port edits a copied file.

The object's own class and every other object stay as they were. Nothing is kept between runs.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import linecache
import sys
import types
from collections.abc import Callable
from typing import Any

import torch

_numbers = itertools.count()


def edit(owner: Any, method: str, *changes: tuple[str, str], **names: Any) -> None:
    """Rewrite `method` of `owner` alone: each `(old, new)` is replaced in its source text, wherever it stands.

    `names` replace what the method finds in its module (`randn_tensor=...`). Raises ValueError when an old text is not there:
    a fault that changes nothing would be counted as missed.
    """
    kind = type(owner)
    function = inspect.unwrap(getattr(kind, method))
    source = inspect.getsource(function)
    for old, new in changes:
        if old not in source:
            raise ValueError(f"{kind.__name__}.{method} has no {old!r}")
        source = source.replace(old, new)
    home = function.__globals__["__name__"]
    space = types.ModuleType(f"{home}_edited_{next(_numbers)}")
    space.__dict__.update({**function.__globals__, **names, "__name__": space.__name__, "_Original": kind})
    sys.modules[space.__name__] = space
    text = f"class {kind.__name__}(_Original):\n{source}"
    file = f"<{space.__name__}.{method}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)  # so that its source can be read again
    exec(compile(text, file, "exec"), space.__dict__)
    owner.__class__ = space.__dict__[kind.__name__]


def become(owner: Any, **attributes: Any) -> None:
    """Give `owner` alone other methods or properties."""
    kind = type(owner)
    owner.__class__ = type(kind.__name__, (kind,), {"__module__": kind.__module__, **attributes})


def requests(pipeline: Any, change: Callable[[dict[str, Any]], None]) -> None:
    """Put a wrapper around the pipeline's call that may change the arguments it was given, as a request parser would."""
    original = type(pipeline).__call__
    signature = inspect.signature(original)

    @functools.wraps(original)
    def call(self, *args, **kwargs):
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        change(bound.arguments)
        return original(*bound.args, **bound.kwargs)

    become(pipeline, __call__=call)


def default_of(pipeline: Any, argument: str) -> Any:
    """What the pipeline's call takes for an argument that is not given."""
    return inspect.signature(type(pipeline).__call__).parameters[argument].default


def reconfigure(pipeline: Any, **changes: Any) -> None:
    """Build the pipeline's scheduler again from its config with some values changed."""
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, **changes)


def results_as(pipeline: Any, dtype: torch.dtype) -> None:
    """Cast what `encode_prompt` returns, so that an encoder of another precision fits the denoiser."""
    original = type(pipeline).encode_prompt

    @functools.wraps(original)
    def encode_prompt(self, *args, **kwargs):
        result = original(self, *args, **kwargs)
        return tuple(part.to(dtype) if torch.is_tensor(part) and part.is_floating_point() else part for part in result)

    become(pipeline, encode_prompt=encode_prompt)
