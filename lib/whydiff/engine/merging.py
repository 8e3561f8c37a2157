"""One entry for what both branches of guidance show: they call the same modules, so a finding may be told already."""

from __future__ import annotations

from whydiff.causes.finding import Explanation, Finding


def told(finding: Finding, named: list):
    """What already says of the same module, unexplained, that it makes a difference."""
    module = (finding.inside or {}).get("module")
    return next((entry for entry in named if module and not entry.explanations and entry.finding is not finding
                 and (entry.finding.inside or {}).get("module") == module and entry.finding.place.step == finding.place.step), None)  # fmt: skip


def named_alike(explanations: list[Explanation], named: list):
    """What already names the same causes in the same modules."""
    def spelled(several):
        return [(e.id, e.module, repr(e.relation)) for e in several]

    return next((entry for entry in named if entry.explanations and spelled(entry.explanations) == spelled(explanations)), None)
