"""Does the decoder receive rightly scaled latents? Fitted from the last latents of the loop, else from both sides' values."""

from __future__ import annotations

import dataclasses

import torch

from whydiff.causes.finding import Explanation, Finding, explained_share, number, same_parameter
from whydiff.causes.fits import Affine, affine, affine_in_a_layout


@dataclasses.dataclass(frozen=True)
class Scaling:
    """vae_latents = latents / divisor + offset; one number each, or one for each channel."""

    divisor: torch.Tensor
    offset: torch.Tensor

    @classmethod
    def of(cls, fit: Affine) -> Scaling:
        return cls(1 / fit.scale, fit.offset)

    @property
    def one(self) -> bool:
        return self.divisor.numel() == 1

    def same(self, other: Scaling) -> bool:
        return self.divisor.shape == other.divisor.shape and _close(self.divisor, other.divisor) and _close(self.offset, other.offset)

    def apply(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, C, ...) -> what the decoder receives."""
        return latents.double() / self._wide(self.divisor, latents) + self._wide(self.offset, latents)

    def undo(self, received: torch.Tensor) -> torch.Tensor:
        return (received.double() - self._wide(self.offset, received)) * self._wide(self.divisor, received)

    def _wide(self, number: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        return number if self.one else number.reshape([1, -1] + [1] * (like.ndim - 2))

    @property
    def words(self) -> str:
        if self.one:
            divisor, offset = self.divisor.item(), self.offset.item()
            parts = [] if same_parameter(divisor, 1) else [f"divided by {number(float(f'{divisor:.6g}'))}"]
            parts += [] if same_parameter(offset, 0) else [f"shifted by {number(float(f'{offset:.5g}'))}"]
            return " and ".join(parts) or "left as they are"
        return f"divided by {_first(self.divisor)} and shifted by {_first(self.offset)}, channel by channel"


def explain(finding: Finding, lab) -> list[Explanation]:
    """`vae-scaling-factor`, `vae-shift-missing` or `latent-mean-std-missing`."""
    if finding.place not in finding.candidate:
        return []
    reference, candidate = finding.pairs[0]
    candidate = on_the_references_latents(finding, lab, reference, candidate)
    between = affine(reference, candidate)
    if between is None or not bool((between.scale != 0).all()):
        return []
    stated = {role: configured(lab, role, reference.shape) for role in ("reference", "candidate")}
    mine, theirs = scalings(finding, lab, between, stated)
    undone = (candidate.double() - between.apply(torch.zeros_like(reference))) / (between.apply(torch.ones_like(reference))
                                                                                   - between.apply(torch.zeros_like(reference)))  # fmt: skip
    share = explained_share(reference.double(), candidate.double(), undone)
    if share < 0.9:
        return []
    if mine is None or theirs is None:
        return _unknown(between, share) if between.one else []
    proof = f"fitted what becomes of the loop's last latents: in the candidate they are {theirs.words}, in the reference {mine.words}"
    proof += f"; undoing the candidate's and applying the reference's gives the reference's {finding.probe}"
    departs = _departs(mine, theirs, stated)
    if mine.one and theirs.one:
        return _global(mine, theirs, stated, share, proof, departs)
    return [Explanation(
        id="latent-mean-std-missing", explained=share, experiment=proof, departs=departs,
        statement=f"before decoding, candidate's latents are {theirs.words}; the reference's are {mine.words}",
        relation={"kind": "latent_statistics", "divisor_reference": _listed(mine.divisor), "divisor_candidate": _listed(theirs.divisor),
                  "offset_reference": _listed(mine.offset), "offset_candidate": _listed(theirs.offset)},
        fix="decode latents · latents_std + latents_mean, with the numbers of vae.config")]  # fmt: skip


def on_the_references_latents(finding: Finding, lab, reference: torch.Tensor, candidate: torch.Tensor) -> torch.Tensor:
    """What the candidate makes of the reference's last latents, computed again where both sides are recordings: the values that it
    recorded inherit what its own latents differ in. As recorded where that cannot be told, or both scale alike."""
    if lab.patient is not None:
        return candidate
    mine, theirs = (from_latents(finding, lab, role) for role in ("reference", "candidate"))
    if mine is None or theirs is None or mine.same(theirs):
        return candidate
    return theirs.apply(mine.undo(reference))


def scalings(finding: Finding, lab, between: Affine, stated) -> tuple[Scaling | None, Scaling | None]:
    """What each side makes of the latents: fitted from its own, else the reference's configuration and what lies between."""
    fitted = {role: from_latents(finding, lab, role) for role in ("reference", "candidate")}
    mine, theirs = fitted["reference"], fitted["candidate"]
    if mine is None and theirs is None:
        mine = stated["reference"] or stated["candidate"]
    if mine is not None and theirs is None:
        theirs = _after(mine, between)
    elif theirs is not None and mine is None:
        mine = _after(theirs, _inverse(between))
    return mine, theirs


def from_latents(finding: Finding, lab, role: str) -> Scaling | None:
    """Fitted between the last latents that this side was given and what it hands to the decoder."""
    fed = {"candidate": "reference", "reference": "candidate", None: role}[lab.patient]
    last = lab.traces[fed].at("latents")
    made = getattr(finding, role).get(finding.place)
    if not last or made is None:
        return None
    found = affine_in_a_layout(lab.traces[fed][last[-1]], made)
    return None if found is None or not bool((found[0].scale != 0).all()) else Scaling.of(found[0])


def configured(lab, role: str, shape) -> Scaling | None:
    """What a side's own VAE states: scaling_factor and shift_factor, or mean and standard deviation of each channel."""
    known = lab.component_config(role, "vae")
    config = known[1] if known else {}
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if isinstance(mean, (list, tuple)) and isinstance(std, (list, tuple)) and len(mean) == len(std) == shape[1]:
        factor = config.get("scaling_factor") or 1.0
        return Scaling(factor / torch.tensor(std, dtype=torch.float64), torch.tensor(mean, dtype=torch.float64))
    factor = config.get("scaling_factor")
    if not isinstance(factor, (int, float)) or not factor:
        return None
    return Scaling(torch.tensor([factor], dtype=torch.float64), torch.tensor([config.get("shift_factor") or 0.0], dtype=torch.float64))


def _global(mine: Scaling, theirs: Scaling, stated, share, proof, departs) -> list[Explanation]:
    found = []
    own = {role: None if s is None or not s.one else s for role, s in stated.items()}
    other = own["reference"] is not None and own["candidate"] is not None and not own["reference"].same(own["candidate"])
    if not _close(mine.divisor, theirs.divisor):
        a, b = mine.divisor.item(), theirs.divisor.item()
        missing = same_parameter(a, 1) or same_parameter(b, 1)
        found.append(Explanation(
            id="vae-scaling-factor", equivalent=["vae-scaling-missing"] if missing else [], explained=share, experiment=proof, departs=departs,
            statement=_says("scaling_factor", a, b, own, other, "are divided by {}", "are not divided by scaling_factor", 1.0),
            relation={"kind": "vae_scaling", "reference": a, "candidate": b},
            fix=f"divide the latents by vae.config.scaling_factor ({number(float(f'{a:.6g}'))} in the reference) on both sides"))  # fmt: skip
    if not _close(mine.offset, theirs.offset):
        a, b = mine.offset.item(), theirs.offset.item()
        found.append(Explanation(
            id="vae-shift-missing", explained=share, experiment=proof, departs=departs,
            statement=_says("shift_factor", a, b, own, other, "are shifted by {}", "are not shifted by shift_factor", 0.0),
            relation={"kind": "vae_shift", "reference": a, "candidate": b},
            fix=f"add vae.config.shift_factor ({number(float(f'{a:.5g}'))} in the reference) after dividing by scaling_factor"))  # fmt: skip
    return found


def _says(key: str, a: float, b: float, own, other: bool, does: str, does_not: str, nothing: float) -> str:
    words = [does_not if same_parameter(v, nothing) else does.format(number(float(f"{v:.6g}"))) for v in (a, b)]
    text = f"candidate's latents {words[1]} before decoding; the reference's {words[0]}"
    return text + (f" (the two vae.config state different values of {key})" if other else "")


def _departs(mine: Scaling, theirs: Scaling, stated) -> str:
    """Who does not do what its own VAE states; unknown where both VAEs state what their sides do, or neither states anything."""
    off = [role for role, does in (("reference", mine), ("candidate", theirs))
           if stated[role] is not None and not stated[role].same(does)]  # fmt: skip
    if not off and stated["reference"] is not None and stated["candidate"] is None:
        return "candidate"
    return off[0] if len(off) == 1 else "both" if off else "unknown"


def _unknown(between: Affine, share: float) -> list[Explanation]:
    """Only what lies between the sides is known: a factor, or an offset, but not both."""
    scale, offset = between.scale.item(), between.offset.item()
    if same_parameter(scale, 1) == same_parameter(offset, 0):
        return []
    factor = same_parameter(offset, 0)
    words = f"times {number(float(f'{scale:.6g}'))}" if factor else f"plus {number(float(f'{offset:.6g}'))}"
    return [Explanation(
        id="vae-scaling-factor" if factor else "vae-shift-missing", explained=share, departs="unknown",
        statement=f"what candidate's decoder receives is the reference's {words}",
        relation={"kind": "scale", "factor": scale} if factor else {"kind": "offset", "offset": offset},
        experiment=f"undid that on the candidate's vae_latents: they equal the reference's {'· the factor' if factor else '+ the offset'}",
        fix="scale and shift the latents by the numbers of vae.config on both sides",
        equivalent=["vae-scaling-missing"] if factor else [])]  # fmt: skip


def explain_noise(finding: Finding, lab) -> list[Explanation]:
    """A decoder that is told a timestep gets (1 - s) latents + s noise (diffusers pipeline_ltx.py, end of __call__)."""
    if finding.place not in finding.candidate:
        return []
    shares = {}
    for role in ("reference", "candidate"):
        made = getattr(finding, role)[finding.place]
        clean = getattr(finding, "candidate" if role == "reference" else "reference")[finding.place]
        shares[role] = _noise_share(lab, role, clean, made)
    side = next((role for role, share in shares.items() if share is not None), None)
    if side is None:
        return []
    share, words = shares[side], number(float(f"{shares[side]:.4g}"))
    other = "reference" if side == "candidate" else "candidate"
    return [Explanation(
        id="vae-decode-noise", stage="vae", explained=1.0, departs="unknown",
        statement=f"{side} mixes a share of {words} noise into the latents before decoding; the {other} mixes in none, or less",
        relation={"kind": "decode_noise", "side": side, "share": share},
        experiment=f"mixed the noise that the {side} drew before decoding into the {other}'s latents, {words} of it: equals the {side}'s",
        fix="pass the same decode_noise_scale (and decode_timestep) to both sides")]  # fmt: skip


def _noise_share(lab, role: str, clean: torch.Tensor, made: torch.Tensor) -> float | None:
    """s of made = (1 - s) clean + s noise for a noise that this side drew, or None where no draw does it."""
    trace = lab.last_forced if role == lab.patient and lab.last_forced is not None else lab.traces[role]
    for place in trace.at("initial_noise"):
        noise = trace[place]
        if noise.shape != made.shape or not all(t.isfinite().all() for t in (noise, made, clean)):
            continue
        x, n, y = (t.double().flatten() for t in (clean, noise, made))
        solution = torch.linalg.lstsq(torch.stack([x, n], 1), y[:, None]).solution.flatten()
        rest = float((y - solution[0] * x - solution[1] * n).norm() / y.norm())
        share = float(solution[1])
        if rest <= 1e-5 and share > 1e-4 and same_parameter(float(solution.sum()), 1):
            return share
    return None


def _after(first: Scaling, then: Affine) -> Scaling:
    return Scaling(first.divisor / then.scale, first.offset * then.scale + then.offset)


def _inverse(fit: Affine) -> Affine:
    return Affine(1 / fit.scale, -fit.offset / fit.scale, fit.residual)


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and all(same_parameter(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True))


def _first(values: torch.Tensor) -> str:
    shown = ", ".join(f"{v:.4g}" for v in values[:3].tolist())
    return f"{shown}{', ...' if values.numel() > 3 else ''}"


def _listed(values: torch.Tensor) -> list[float]:
    return [float(f"{v:.6g}") for v in values.tolist()]


