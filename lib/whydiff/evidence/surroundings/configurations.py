"""How a side's components are configured: the class of each and its own `config`, as far as JSON can hold it."""

from __future__ import annotations

from collections.abc import Mapping

_PLAIN = (str, int, float, bool, type(None))
MOST_ENTRIES = 64  # of a list; a table of betas is data, and no setting


def configurations(subject) -> dict[str, dict]:
    """{component: {"class": qualified name, "config": {...}}} of everything in a side that has a configuration."""
    parts = dict(getattr(subject, "components", None) or {})
    scheduler = getattr(subject, "scheduler", None)
    if scheduler is not None:
        parts.setdefault("scheduler", scheduler)
    found = {}
    for name, part in parts.items():
        config = getattr(part, "config", None)
        config = config.to_dict() if hasattr(config, "to_dict") else config
        if isinstance(config, Mapping):
            kind = type(part)
            found[name] = {"class": f"{kind.__module__}.{kind.__qualname__}",
                           "config": {str(k): list(v) if isinstance(v, tuple) else v for k, v in config.items() if _is_plain(v)}}  # fmt: skip
    return found


def _is_plain(value) -> bool:
    if isinstance(value, (list, tuple)):
        return len(value) <= MOST_ENTRIES and all(_is_plain(v) for v in value)
    return isinstance(value, _PLAIN)
