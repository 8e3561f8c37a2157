"""What a side left to its framework's defaults, for the audits of the stages where it acts."""

from __future__ import annotations

from whydiff.audits.dimension_audit import stated
from whydiff.audits.result import Sentence
from whydiff.evidence.atlas.keys import KEYS


def left_to_defaults(study, group: str):
    """A sentence for each parameter of a group (`KEYS`) that the atlas filled, with its value and source; None says nothing."""
    for role in ("reference", "candidate"):
        for key, entry in stated(study, role).items():
            if "source" in entry and entry["value"] is not None and KEYS[key].group == group:
                yield Sentence(f"nobody specified {key} on the {role}, which leaves {entry['value']!r}, the {entry['origin']}")
