"""Is the prediction used with the right sign?"""

from __future__ import annotations

from whydiff.causes.finding import Explanation, Finding
from whydiff.measure.compare import relative_l2


def explain_sign(finding: Finding, lab) -> list[Explanation]:
    """The candidate's prediction is the reference's with the other sign."""
    reference, candidate = finding.stacked()
    left = relative_l2(candidate, -reference)
    if not all(lab.closes(finding, a, -b) for a, b in finding.pairs):
        return []
    return [Explanation(
        id="velocity-sign", stage="model_forward", statement="the sign of the candidate's prediction is reversed",
        relation={"kind": "sign", "factor": -1.0}, explained=1.0 - (left / finding.difference) ** 2,
        experiment=f"reversed the sign of the candidate's {finding.probe}: equals the reference's",
        fix="negate the network's output before the scheduler (velocity is noise minus image in flow matching)")]  # fmt: skip
