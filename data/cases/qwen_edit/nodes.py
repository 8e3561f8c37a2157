"""The model nodes of the workflow, and the object they patch. A node clones the patcher, so none sees what another did.

After ComfyUI 0.15.0, comfy/model_patcher.py, and comfy_extras/nodes_model_advanced.py, nodes_cfg.py. Written anew from the
description of those places; three patches live in three slots: weights, sampling, what happens after guidance.
"""

import copy
import dataclasses

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Patcher:
    """A network and what is to be changed about it when it samples. `shift` None is the model's own."""

    transformer: torch.nn.Module
    weights: tuple = ()  # (name, down (r, in), up (out, r), strength)
    unmatched: tuple[str, ...] = ()  # keys of an adapter that no weight answers to
    shift: float | None = None
    after_guidance: tuple = ()  # functions of (denoised, denoised of the positive alone)

    def patched(self, route: str = "merged") -> torch.nn.Module:
        """A copy with the adapters in its weights.

        `route`: "merged" in full precision; "merged_fp8" rounds the sum to float8, as a complete load of float8 weights does;
        "added_fp8" rounds the base alone, as a partial load does, which adds the adapter at each forward.
        """
        made = copy.deepcopy(self.transformer)
        state = made.state_dict()
        for name, down, up, strength in self.weights:
            delta = strength * up @ down
            if route == "merged":
                state[name] += delta
            elif route == "merged_fp8":
                state[name].copy_(_float8(state[name] + delta))
            else:
                state[name].copy_(_float8(state[name]) + delta)
        return made


def _float8(x: Tensor) -> Tensor:
    """Rounded to the nearest; ComfyUI rounds stochastically with a seed made from the key, which is deterministic as well."""
    return x.to(torch.float8_e4m3fn).to(x.dtype)


def load_lora(model: Patcher, lora: dict[str, tuple[Tensor, Tensor]], strength: float = 1.0, prefix: str = "") -> Patcher:
    """LoraLoaderModelOnly. Keys that no weight answers to are left out, and only a line in the log would say so."""
    names = {f"{prefix}{key}.weight": pair for key, pair in lora.items()}
    known = model.transformer.state_dict()
    patches = tuple((name, *pair, strength) for name, pair in names.items() if name in known)
    return dataclasses.replace(model, weights=model.weights + patches, unmatched=tuple(n for n in names if n not in known))


def sampling_aura_flow(model: Patcher, shift: float = 1.73) -> Patcher:
    """ModelSamplingAuraFlow; its default is 1.73, the template of Qwen-Image-Edit sets 3."""
    return dataclasses.replace(model, shift=shift)


def cfg_norm(model: Patcher, strength: float = 1.0) -> Patcher:
    """CFGNorm: the guided prediction gets back the length of the positive one over the channels, and never grows."""

    def normed(denoised: Tensor, positive: Tensor) -> Tensor:
        scale = positive.norm(dim=1, keepdim=True) / (denoised.norm(dim=1, keepdim=True) + 1e-8)
        return denoised * scale.clamp(max=1.0) * strength

    return dataclasses.replace(model, after_guidance=(*model.after_guidance, normed))


NODES = {"lora": load_lora, "aura_flow": sampling_aura_flow, "cfg_norm": cfg_norm}
