"""What a pipeline calls the results of its own methods, read from its source.

`encode_prompt` returns other things in each pipeline, and some pipelines call it twice, the second time for the
negative prompt. The names stand where the result is assigned in `__call__`, or else where it is returned.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
import textwrap


def result_names(pipeline, method: str) -> list[str]:
    """Names of the results of `pipeline.method(...)`, for the call that is being made right now. Empty if unknown."""
    call = inspect.unwrap(type(pipeline).__call__)
    code = getattr(call, "__code__", None)
    frame = sys._getframe(1)
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    if frame is not None:
        for first, last, names in assigned(call, method):
            if first <= frame.f_lineno <= last:
                return names
    return returned(getattr(type(pipeline), method, None))


@functools.cache
def assigned(function, method: str) -> tuple[tuple[int, int, list[str]], ...]:
    """(first line, last line, names) of every `names = self.method(...)` in a function."""
    try:
        lines, start = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (TypeError, OSError, SyntaxError):
        return ()
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and getattr(node.value.func, "attr", "") == method:
            found.append((node.lineno + start - 1, node.end_lineno + start - 1, _names(node.targets[0])))
    return tuple(found)


@functools.cache
def returned(function) -> list[str]:
    """The names in a function's last `return a, b, c`."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (TypeError, OSError, SyntaxError):
        return []
    values = [node.value for node in ast.walk(tree) if isinstance(node, ast.Return) and node.value is not None]
    return _names(values[-1]) if values else []


def _names(node: ast.expr) -> list[str]:
    parts = node.elts if isinstance(node, ast.Tuple) else [node]
    return [part.id if isinstance(part, ast.Name) else "" for part in parts]
