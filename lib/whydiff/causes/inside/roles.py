"""What is a module there for? Told from its place, its inputs and its outputs; a wrong role would give a cause a wrong name,
so each test asks for more than a name where more can be had."""

from __future__ import annotations

import re

from whydiff.causes.inside.inside import Inside
from whydiff.causes.inside.naming import ROTARY, VISION, _modulates
from whydiff.evidence.recording.calls import tensors_in

QK_NORM = (r"(?i)(^|[._])(norm_?(added_|cross_)?[qk]|[qk]_?(layer)?norm|(query|key)_?norm|ln_[qk]|qk_norm"
           r"|norm_added_[qk])$")  # fmt: skip
NORM = r"(?i)norm|(^|[._])ln(_|\d|$)"


def is_qk_norm(name: str) -> bool:
    return bool(re.search(QK_NORM, name))


def is_norm(inside: Inside, name: str | None = None) -> bool:
    kind = type(inside.modules["reference"]).__name__
    return bool(re.search(NORM, (name or inside.name).rpartition(".")[2]) or "Norm" in kind)


def makes_rotations(inside: Inside) -> bool:
    """Tables of sines and cosines (or complex units): nothing exceeds 1."""
    if not re.search(ROTARY + "|pos_embed|pe_embedder", inside.name):
        return False
    made = tensors_in(inside.outputs()["reference"])
    return bool(made) and all(t.abs().max() <= 1 + 1e-5 for t in made if t.is_floating_point() or t.is_complex())


def makes_angles(inside: Inside) -> bool:
    """Positions times frequencies, before sines and cosines are taken: a module without weights that is named after them."""
    module = inside.modules["reference"]
    return bool(re.search(ROTARY, inside.name)) and module is not None and not any(True for _ in module.parameters())


def is_rotary_name(name: str) -> bool:
    return bool(re.search(ROTARY + "|pos_embed|pe_embedder", name))


def makes_modulation(inside: Inside) -> bool:
    """Shifts, scales and gates, or the vector they are made of: one vector per sample comes in."""
    return _modulates(inside)


def is_vision(inside: Inside) -> bool:
    return bool(re.search(VISION, inside.name))


def low_precision_id(inside: Inside, whole: bool, name: str) -> tuple[str, tuple[str, ...]] | None:
    """The catalogue name of 16-bit arithmetic in a module of this role. `whole`: computed so, and not only rounded once."""
    if makes_rotations(inside) or makes_angles(inside):
        return ("vision-rotary-low-precision", ("rope-phase-low-precision",)) if is_vision(inside) else (
            "rope-phase-low-precision", ("ambient-autocast",))  # fmt: skip
    if makes_modulation(inside):
        return ("modulation-low-precision", ("autocast-fp32-device-dependent",)) if whole else None
    if is_norm(inside) or name in ("layer_norm", "rms_norm", "group_norm"):
        return "fused-norm-rounding-point", ()
    return None
