"""KEY=VALUE as a command line has it: the value is YAML, so 3 is a number, true a truth value and [1, 2] a list."""

from __future__ import annotations

from typing import Any

from whydiff.errors import Trouble


def key_values(pairs: list[str] | None, option: str) -> dict[str, Any]:
    """`["a=1", "b.c=[x]"]` -> `{"a": 1, "b.c": ["x"]}`; the last of equal keys wins. Raises Trouble naming the option."""
    from whydiff.evidence.case import parse_yaml

    found: dict[str, Any] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise Trouble(f"{option} {pair!r} is not KEY=VALUE. Write {option} {pair.strip() or 'key'}=VALUE.")
        found[key.strip()] = parse_yaml(value, f"{option} {key}") if value.strip() else value or None
    return found
