"""bfloat16 on both sides, judged by the distance to float32; and what autocast really does on a device."""

import warnings

import torch

from longcat.inputs import Inputs
from longcat.note_checks import predict_both, predictions
from longcat.pipeline import candidate, reference
from whydiff.audits.result import Table
from whydiff.evidence.floor import shaking
from whydiff.measure.compare import relative_l2


def ratio_to_floor(given: list[Inputs], blocks: int, **options) -> tuple[float, float, Table]:
    """err(port in bfloat16, original in float32) / err(original in bfloat16, original in float32), the mean over inputs.

    The denominator is the floor: what the original itself loses by its own choice of dtype. The second number is the same
    ratio for the original with every rounding drawn anew (`evidence.floor.shaking`): what is no reproach. Then the table.
    """
    truth, own = reference(blocks=blocks), reference(dtype="bfloat16", blocks=blocks)
    ported = candidate(dtype="bfloat16", blocks=blocks, **options)
    runs = {"original, float32": [predictions(truth, one)[0] for one in given],
            "original, bfloat16": [predictions(own, one)[0] for one in given],
            "port, bfloat16": [predictions(ported, one)[0] for one in given]}  # fmt: skip
    with shaking(own.components, 0):
        runs["original, bfloat16, rounded anew"] = [predict_both(own, one)[0] for one in given]
    pairs = [("original, float32", name) for name in ("original, bfloat16", "original, bfloat16, rounded anew", "port, bfloat16")]
    errors = {pair: sum(map(relative_l2, runs[pair[0]], runs[pair[1]])) / len(given)
              for pair in (*pairs, ("original, bfloat16", "port, bfloat16"))}  # fmt: skip
    floor, anew, port = (errors[pair] for pair in pairs)
    rows = tuple((*pair, error, error / floor) for pair, error in errors.items())
    return port / floor, anew / floor, Table(("from", "to", "relative L2", "in floors"), rows)


def autocast_to_float32(device: str = "cpu") -> bool:
    """Whether a bfloat16 layer under autocast(device, float32) computes in float32. It warns and stays off where it does not."""
    layer, x = torch.nn.Linear(8, 8, dtype=torch.bfloat16), torch.ones(1, 8, dtype=torch.bfloat16)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        with torch.autocast(device_type=device, dtype=torch.float32):
            return layer(x).dtype == torch.float32
