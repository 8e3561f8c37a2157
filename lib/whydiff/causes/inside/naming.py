"""What a state that differs is called: one line for each kind of entry. None: it has no catalogue id, and gets none."""

from __future__ import annotations

import dataclasses
import re

import torch

from whydiff.causes.inside.differences import Difference
from whydiff.causes.inside.inside import Inside
from whydiff.causes.inside.weights import Change, change


@dataclasses.dataclass(frozen=True)
class Name:
    id: str
    statement: str  # with {side}, {other}, {module}, {mine}, {theirs}: mine is the departing side's value
    fix: str
    equivalent: tuple[str, ...] = ()
    departs: str = "candidate"
    relation: dict = dataclasses.field(default_factory=dict)


# (the entry's key, the module's name, stage; all patterns) -> id, equivalents. The first line that fits names it.
WORDS: tuple[tuple[str, str, str, str, tuple[str, ...]], ...] = (
    (r"^training$", "", "", "eval-mode-missing", ("export-without-eval",)),
    (r"^p$|dropout|drop_prob|layerdrop", "", "", "eval-mode-missing", ("export-without-eval",)),
    (r"eps(ilon)?$", "", "prompt_encoding", "text-encoder-norm-eps", ("norm-eps",)),
    (r"eps(ilon)?$", "", "", "norm-eps", ()),
    (r"^approximate$", "", "", "gelu-tanh-vs-exact", ()),
    (r"freq_shift$", "", "", "downscale-freq-shift", ()),
    (r"axes_dims?(_rope)?$|^axes$|rope_(axes|dims?_list)|_dim$", "(?i)rope|rotary|pos_embed|pe_embed", "", "rope-axis-split", ()),
    (r"axes_dims?(_rope)?$", "", "", "rope-axis-split", ()),
    (r"^padding$|^pad$|padding_mode", r"(?i)enc.*down|down.*conv", "vae", "encoder-downsample-padding", ()),
    (r"^mode$|align_corners|interpolation|upsample_mode", "", "vae", "decoder-upsample-mode", ()),
    (r"lora_alpha|^alpha$|scaling$|lora_scale|network_alpha", "(?i)lokr", "", "lora-lokr-alpha", ("lora-alpha-default",)),
    (r"lora_alpha|network_alpha|lora_scale|lora_scaling", "", "", "lora-alpha-default", ()),
    (r"^alpha$|^scaling$", "(?i)lora|adapter", "", "lora-alpha-default", ()),
    (r"(^|_)dtype$", "", "", "undeclared-dtype", ()),
)  # fmt: skip

ROTARY = r"(?i)inv_freq|freqs|rope|rotary|rot_emb|^cos|^sin|cos_cached|sin_cached|pe_table|^theta"
VISION = r"(?i)vision|visual|image_encoder|vit|siglip"
POSITIONS = r"(?i)pos(ition)?_?emb|position|pos_table|pe$"
MODULATION = r"(?i)mod|adaln|ada_ln|norm\w*\.linear|norm_out|scale_shift|final_layer|time_emb_proj|norm1_context"
GATED = r"(?i)ff|mlp|feed_forward|gate|up|swiglu|geglu|w1|w12|w13|fc|dense|wi|proj"


def of_word(difference: Difference, inside: Inside) -> Name | None:
    """The name of a number, word, flag or function that differs."""
    mine, theirs = difference.values["reference"], difference.values["candidate"]
    place = f"{inside.name}.{difference.path}"
    departs = "candidate"
    for key, module, stage, found, equivalent in WORDS:
        if re.search(key, difference.key) and re.search(module, place) and stage in (inside.stage, ""):
            if difference.key == "training":
                departs = "candidate" if theirs else "reference"
            elif found == "undeclared-dtype":
                if not all(isinstance(value, torch.dtype) and value.is_floating_point for value in (mine, theirs)):
                    return None
                departs = min(("candidate", theirs), ("reference", mine), key=lambda pair: pair[1].itemsize)[0]
            elif found.endswith("norm-eps"):
                departs = _against_config(inside, mine, theirs)
            return _word(found, difference, inside, equivalent, departs)
    if _gelu(mine) and _gelu(theirs):
        return _word("gelu-tanh-vs-exact", difference, inside, (), departs)
    return None


def _word(found, difference, inside, equivalent, departs) -> Name:
    mine, theirs = (_spelled(difference.values[role]) for role in ("reference", "candidate"))
    values = {"reference": mine, "candidate": theirs}
    other = "reference" if departs == "candidate" else "candidate"
    return Name(found, f"{difference.path} of {inside.name} is {theirs} in the candidate and {mine} in the reference",
                f"set {difference.path} of {inside.names[departs]} to {values[other]} in the {departs}", equivalent, departs,
                {"kind": "state", "entry": difference.path, **values})  # fmt: skip


def _against_config(inside: Inside, mine, theirs) -> str:
    """The side whose value is not the one that both configurations state, if one states the other's."""
    stated = set()
    for root in inside.roots.values():
        config = getattr(root, "config", None)
        entries = dict(config) if hasattr(config, "items") else vars(config) if config is not None else {}
        stated |= {v for k, v in entries.items() if "eps" in str(k) and isinstance(v, float)}
    return "reference" if theirs in stated and mine not in stated else "candidate"


def _gelu(value) -> bool:
    return "gelu" in str(_spelled(value)).lower()


def _spelled(value) -> str | float | int | bool | None:
    if isinstance(value, (int, float, str, bool, type(None))):
        return value if not callable(value) else str(value)
    return getattr(value, "__qualname__", None) or str(value)


def of_tensor(difference: Difference, inside: Inside) -> Name | None:
    """The name of a stored tensor that differs, by what happened to it."""
    mine, theirs = difference.values["reference"], difference.values["candidate"]
    what = change(mine, theirs)
    place = f"{inside.name}.{difference.path}"
    found = _tensor_id(what, difference, inside, place, mine, theirs)
    if found is None:
        return None
    id_, equivalent = found
    side, other = (what.side, "reference" if what.side == "candidate" else "candidate")
    return Name(id_, f"{difference.path} of {inside.name} is the {other}'s {what.words} in the {side}" if what.kind != "rounded"
                else f"{difference.path} of {inside.name} is {what.words} in the {side} and not in the {other}",
                f"restore {difference.path} of {inside.names[side]} in the {side} from the checkpoint", equivalent, what.side,
                {"kind": what.kind, "entry": difference.path, **what.numbers})  # fmt: skip


def _tensor_id(what: Change, difference, inside, place, mine, theirs) -> tuple[str, tuple[str, ...]] | None:
    if what.kind == "constant" and re.search(r"(?i)sin|imag", difference.key) and re.search(ROTARY, place):
        return "rope-complex-buffer-cast", ()  # the table of cosines is right, that of sines gone
    rotary = re.search(ROTARY, difference.key) or (difference.store != "_parameters" and re.search(ROTARY, place))
    if what.kind == "imaginary_lost":
        return "rope-complex-buffer-cast", ()
    if rotary and difference.store != "_parameters":
        if what.kind in ("rounded", "rounding_sized"):
            return ("vision-rotary-low-precision", ("rope-phase-low-precision",)) if re.search(VISION, place) else ("rope-phase-low-precision", ())
        return None
    if re.search(POSITIONS, place.rpartition("/")[2]) and difference.store != "_parameters" and what.kind not in ("rounded", "damaged"):
        return "position-embedding-init", ()
    if what.kind == "chunks_exchanged":
        if _modulates(inside) or re.search(MODULATION, place):
            return "adaln-shift-scale-swapped", ()
        if what.numbers["parts"] == 2 and re.search(GATED, place.partition("/")[2]):
            return "gate-up-swapped", ()
        return None
    if what.kind == "rounded":
        if _few_are_lower(inside, what.side):
            return "fp32-exempt-modules-lost", ()
        return None if difference.store == "_parameters" else ("undeclared-dtype", ())  # a table that code makes, cast with the weights
    return {"damaged": ("checkpoint-file-corrupt", ("offload-corrupts-weights",)),
            "constant": ("missing-keys-nonstrict", ()), "unrelated": ("missing-keys-nonstrict", ("checkpoint-file-corrupt",)),
            "kronecker": ("lora-lokr-alpha", ("lora-alpha-default",)), "halves_opposed": ("lora-adaln-both-factors", ()),
            "low_rank": ("lora-alpha-default", ()), "rounding_sized": ("lora-unfuse-residual", ())}.get(what.kind)  # fmt: skip


def _modulates(inside: Inside) -> bool:
    """Does the module receive one vector per sample, as the layers that make shifts and scales do?"""
    call = inside.calls["reference"]
    from whydiff.evidence.recording.calls import tensors_in

    seen = [t for t in tensors_in(call.inputs) if t.is_floating_point()] if call else []
    return bool(seen) and (seen[0].dim() == 2 or (seen[0].dim() == 3 and seen[0].shape[1] == 1))


def _few_are_lower(inside: Inside, side: str) -> bool:
    """A component that is mixed on one side: few of its weights are of a lower precision than their counterparts."""
    roots = {role: dict(root.named_parameters()) if root is not None else {} for role, root in inside.roots.items()}
    other = roots["reference" if side == "candidate" else "candidate"]
    own = {name: p for name, p in roots[side].items() if p.is_floating_point()}
    lower = [name for name, p in own.items() if _is_low(p) and not (name in other and _is_low(other[name]))]
    return 0 < len(lower) < 0.5 * len(own)


def _is_low(parameter) -> bool:
    value = parameter.detach()
    return value.dtype in (torch.bfloat16, torch.float16) or bool(value.ne(0).any()) and any(
        torch.equal(value.to(d).to(value.dtype), value) for d in (torch.bfloat16, torch.float16))  # fmt: skip
