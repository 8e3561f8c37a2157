"""Does the decoder receive rightly scaled latents, and does it make the same picture of them on both sides?"""

from __future__ import annotations

import contextlib
import dataclasses

import torch

from whydiff.audits.judge import both, judged, lies_in, sentences, tensors
from whydiff.audits.result import AuditResult, Sentence
from whydiff.audits.unspecified import left_to_defaults
from whydiff.causes.finding import number
from whydiff.measure.compare import compare, relative_l2
from whydiff.places import Place

NAME = "vae_round_trip"
QUESTION = "Does the decoder receive rightly scaled latents, and make the same picture of them on both sides?"
PROBES = ("vae_latents", "decoded", "image")

concerns = lies_in(stages=("vae", "post_processing"), probes=PROBES)


@dataclasses.dataclass(frozen=True)
class Convention:
    """vae_latents = latents / scaling + shift, channel by channel where `per_channel`; fitted from one side's own tensors."""

    scaling: float
    shift: float
    left: float  # relative L2 distance that the fit leaves
    per_channel: bool = False


def audit(study) -> AuditResult:
    """The convention each side follows, statistics per channel, and a round trip through a live VAE."""
    latents = both(study, "vae_latents")
    conventions = {role: convention(study, role) for role in latents}
    config = study.lab.config("vae", "scaling_factor")
    findings = [*sentences(study, concerns), *_conventions(study, conventions, config), *_trip(study), *left_to_defaults(study, "vae")]
    return AuditResult(
        NAME,
        QUESTION,
        judged(study, concerns),
        tuple(findings),
        ("channel", "mean, reference", "mean, candidate", "std, reference", "std, candidate", "difference"),
        tuple(_channels(study, latents)),
        {
            "latents": {role: channels(value) for role, value in latents.items()},
            "conventions": conventions,
            "trip": round_trip(study),
        },
    )


def channels(value):
    """(B, C, H, W) or (B, C, T, H, W) -> (C, H, W) of the first picture, first frame; None for other shapes."""
    if value is None or value.dim() not in (4, 5):
        return None
    first = value[0] if value.dim() == 4 else value[0, :, 0]
    return first.double().numpy()


def convention(study, role: str) -> Convention | None:
    """Factor and shift between a side's last latents and what its decoder receives, whatever the packing between them:
    an affine map keeps the order of values, so both are sorted before the fit."""
    trace = study.lab.traces[role]
    places = trace.at("latents") if trace is not None else []
    received = trace.get("vae_latents") if trace is not None else None
    if not places or received is None or trace[places[-1]].numel() != received.numel():
        return None
    last, received = trace[places[-1]].double(), received.double()
    a, b = last.flatten().sort().values, received.flatten().sort().values
    solution = torch.linalg.lstsq(torch.stack([a, torch.ones_like(a)], 1), b[:, None]).solution.flatten()
    factor, shift = (v.item() for v in solution)
    left = relative_l2(b, factor * a + shift)
    if left > 1e-5 and last.shape == received.shape and last.dim() >= 4:
        return _by_channel(last, received)
    return Convention(1 / factor if factor else float("inf"), shift, left)


def _by_channel(last, received) -> Convention:
    """As Wan does: latents · std + mean, each channel with its own numbers."""
    a, b = (t.movedim(1, 0).flatten(1) for t in (last, received))
    mean_a, mean_b = a.mean(1, keepdim=True), b.mean(1, keepdim=True)
    factor = ((a - mean_a) * (b - mean_b)).sum(1, keepdim=True) / (a - mean_a).square().sum(1, keepdim=True)
    shift = mean_b - factor * mean_a
    return Convention((1 / factor).mean().item(), shift.mean().item(), relative_l2(b, factor * a + shift), per_channel=True)


def _conventions(study, conventions, config):
    """The convention of each side in words, against the VAE's own config; the numbers belong to the checkpoint."""
    stated = (
        None
        if config is None or not config.get("scaling_factor")
        else (config["scaling_factor"], config.get("shift_factor") or 0.0)
    )
    words = {}
    for role, found in conventions.items():
        if found is None:
            continue
        numbers = f"latents / {number(round(found.scaling, 4))} + {number(round(found.shift, 4))}"
        if found.left > 1e-4:
            words[role] = ("decodes something else than its last latents, scaled and shifted", f"{found.left:.2g} left over")
        elif found.per_channel:
            words[role] = ("rescales each channel with its own mean and standard deviation before decoding", "")
        elif stated is not None and _close(found, stated):
            words[role] = ("scales and shifts its latents before decoding by the numbers of the VAE's own config", numbers)
        elif stated is not None:
            own = f"latents / {number(stated[0])} + {number(stated[1])}"
            words[role] = (f"decodes {numbers}; the VAE's own config says {own}", "")
        else:
            words[role] = (f"decodes {numbers}", "")
    if len(words) == 2 and words["reference"] == words["candidate"]:
        words = {"each side": words["reference"]}
    yield from (
        Sentence(f"{who if who == 'each side' else f'the {who}'} {text}", figures) for who, (text, figures) in words.items()
    )


def _close(found: Convention, stated: tuple[float, float]) -> bool:
    """Fitted from float32 tensors: equal to four digits is equal."""
    return all(abs(a - b) <= 1e-4 * max(1.0, abs(b)) for a, b in zip((found.scaling, found.shift), stated, strict=True))


def _channels(study, latents):
    pair = tensors(study, Place("vae_latents"))
    mine, theirs = pair if pair is not None else (latents["reference"], latents["candidate"])
    if mine is None or theirs is None or mine.dim() < 4 or theirs.dim() < 4 or mine.shape[1] != theirs.shape[1]:
        return
    for i in range(mine.shape[1]):
        a, b = mine[:, i].double(), theirs[:, i].double()
        yield (
            i,
            a.mean().item(),
            b.mean().item(),
            a.std().item(),
            b.std().item(),
            relative_l2(a, b) if a.shape == b.shape else None,
        )


def live_vae(study):
    """(role, vae) of the first live side whose VAE can encode and decode, or None."""
    for role, side in study.lab.sides.items():
        vae = side.components.get("vae") if side is not None else None
        if vae is not None and hasattr(vae, "encode") and hasattr(vae, "decode"):
            return role, vae
    return None


def round_trip(study) -> dict:
    """The reference's decoded picture encoded and decoded again by one live VAE: how much a VAE loses by itself."""
    found = live_vae(study)
    decoded = both(study, "decoded")["reference"]
    if found is None or decoded is None:
        return {}
    role, vae = found
    with torch.no_grad(), contextlib.suppress(TypeError, AttributeError, ValueError, RuntimeError):
        weight = next(vae.parameters())
        picture = decoded.to(weight.device, weight.dtype)
        encoded = _encoded(vae.encode(picture))
        again = _decoded(vae.decode(encoded)).cpu().float()
        psnr = compare(decoded.float().clamp(-1, 1), again.clamp(-1, 1), data_range=2.0).psnr
        return {"vae": role, "latents": encoded.cpu(), "decoded": again, "psnr": psnr, "before": _picture(decoded), "after": _picture(again)}
    return {}


def _picture(decoded: torch.Tensor) -> torch.Tensor:
    """(B, C, [T,] H, W) in [-1, 1] -> (B, [T,] H, W, C) in [0, 1]."""
    return (decoded.float().movedim(1, -1).clamp(-1, 1) + 1) / 2


def _encoded(output) -> torch.Tensor:
    distribution = getattr(output, "latent_dist", None)
    if distribution is not None:
        return distribution.mean
    return output if isinstance(output, torch.Tensor) else getattr(output, "latents", None)


def _decoded(output) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output[0] if isinstance(output, tuple) else output.sample


def _trip(study):
    """One VAE on both sides' latents: a decoder is at fault only if equal latents become different pictures."""
    found, latents = live_vae(study), both(study, "vae_latents")
    trip = round_trip(study)
    if trip and trip["psnr"] is not None:
        yield Sentence(
            f"encoding and decoding the reference's picture once more with the {trip['vae']}'s VAE gives the measure for this picture",
            f"PSNR {trip['psnr']:.1f} dB",
        )
    if found is None or latents["reference"] is None or both(study, "decoded")["candidate"] is None:
        return
    role, vae = found
    other = {"reference": "candidate", "candidate": "reference"}[role]
    theirs, decoded = both(study, "vae_latents")[other], both(study, "decoded")[other]
    if theirs is None or decoded is None:
        return
    with torch.no_grad(), contextlib.suppress(TypeError, AttributeError, ValueError, RuntimeError):
        weight = next(vae.parameters())
        crossed = _decoded(vae.decode(theirs.to(weight.device, weight.dtype))).cpu()
        if crossed.shape == decoded.shape:
            apart = relative_l2(decoded, crossed)
            same = apart < 1e-4
            yield Sentence(
                f"the {role}'s VAE makes {'the same picture' if same else 'another picture'} of the {other}'s latents "
                f"{'as' if same else 'than'} the {other}'s own",
                f"{apart:.2g} relative",
            )
