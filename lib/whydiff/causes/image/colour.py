"""Is one picture the other in another range or with another colour matrix, as files without a tag are read?"""

from __future__ import annotations

import torch
from torch import Tensor

from whydiff.causes.finding import Explanation, Finding

# Luma weights of red and blue: ITU-R BT.601-7 section 2.5.1, BT.709-6 section 3.2.
LUMA = {"BT.601": (0.299, 0.114), "BT.709": (0.2126, 0.0722)}
LIMITED = 219 / 255, 16 / 255  # scale and offset of limited range
CLOSE = 0.012  # a fitted coefficient from 8-bit pictures is known to a few thousandths


def explain(finding: Finding, lab) -> list[Explanation]:
    """`video-range-tag`: limited read as full range or the reverse, BT.601 taken for BT.709 or the reverse."""
    if finding.place not in finding.candidate:
        return []
    mine, theirs = finding.pairs[0]
    fit = colour_map(mine, theirs)
    if fit is None:
        return []
    matrix, offset, share = fit
    words = next((words for words, known, shift in mistakes()
                  if float((matrix - known).abs().max()) <= CLOSE and float((offset - shift).abs().max()) <= CLOSE), None)  # fmt: skip
    if words is None:
        return []
    return [Explanation(
        id="video-range-tag", stage="post_processing", statement=f"candidate's picture is the reference's, {words}",
        relation={"kind": "colour_matrix", "matrix": [[round(v, 4) for v in row] for row in matrix.tolist()],
                  "offset": [round(v, 4) for v in offset.tolist()]},
        explained=share, departs="unknown",
        experiment="fitted a 3x3 matrix and an offset between the pixels of both: they agree with that of this mistake to 0.01",
        fix="write and read colour range and matrix (full or limited, BT.601 or BT.709) explicitly on both sides")]  # fmt: skip


def mistakes() -> list[tuple[str, Tensor, Tensor]]:
    """(words, 3x3 matrix, offset) of each mistake, from reference to candidate."""
    one, (scale, shift) = torch.eye(3, dtype=torch.float64), LIMITED
    ranges = [("", 1.0, 0.0), ("limited range shown as full", scale, shift), ("full range read as limited", 1 / scale, -shift / scale)]
    found = []
    for kind, a, b in (("", None, None), ("BT.601 read as BT.709", "BT.601", "BT.709"), ("BT.709 read as BT.601", "BT.709", "BT.601")):
        turn = one if a is None else torch.linalg.inv(to_luma(b)) @ to_luma(a)
        for words, factor, offset in ranges:
            if kind or words:
                both = " and ".join(w for w in (kind, words) if w)
                found.append((both, factor * turn, torch.full((3,), offset, dtype=torch.float64)))
    return found


def to_luma(name: str) -> Tensor:
    """RGB to Y'CbCr, both in [0, 1] or [-1/2, 1/2]."""
    red, blue = LUMA[name]
    y = torch.tensor([red, 1 - red - blue, blue], dtype=torch.float64)
    rows = [y, (torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64) - y) / (2 * (1 - blue)),
            (torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64) - y) / (2 * (1 - red))]  # fmt: skip
    return torch.stack(rows)


def colour_map(mine: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor, float] | None:
    """theirs = matrix · mine + offset for each pixel, and the share of the difference it explains; None where it does not."""
    if mine.shape != theirs.shape or mine.shape[-1] != 3:
        return None
    x, y = mine.reshape(-1, 3).double(), theirs.reshape(-1, 3).double()
    inner = ((y > 0.5 / 255) & (y < 254.5 / 255) & (x > 0.5 / 255) & (x < 254.5 / 255)).all(1)  # what was clamped follows no matrix
    if int(inner.sum()) < 64:
        return None
    x, y = x[inner], y[inner]
    design = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    if float(torch.linalg.svdvals(design - design.mean(0))[2]) < 1e-3 * len(x) ** 0.5:
        return None  # pixels of one hue do not tell a matrix
    solution = torch.linalg.lstsq(design, y).solution
    left, gap = y - design @ solution, y - x
    if not float(gap.norm()) or float(left.abs().max()) > 1.6 / 255:
        return None
    share = 1 - float(left.norm() / gap.norm()) ** 2
    return (solution[:3].T, solution[3], share) if share >= 0.9 else None
