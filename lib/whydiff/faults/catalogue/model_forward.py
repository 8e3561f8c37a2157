"""Faults of the network's parts, weights, mode and target."""

from __future__ import annotations

import copy
import functools
import inspect

import torch
import torch.nn.functional as F
from torch import nn

from whydiff.faults.fault import Trial, fault
from whydiff.faults.surgery import block_linears, networks, seeded, submodules, wrap


def _dropouts(trial: Trial) -> None:
    """Both sides get dropout layers that do something; in eval mode they do not."""
    rate = trial.draw.choice([0.05, 0.1, 0.2])
    for host in (trial.faulty, trial.healthy):
        for network in networks(host):
            for layer in submodules(network, nn.Dropout).values():
                layer.p = rate


@fault("eval-mode-missing", "flux", "sd15", "wan", "sdxl")
def _(trial):
    _dropouts(trial)
    for network in networks(trial.faulty):
        network.train()


@fault("export-without-eval", "flux", "sd15", "sd3")
def _(trial):
    _dropouts(trial)
    network = networks(trial.faulty)[0]
    exported = copy.deepcopy(network).train()
    # The pipeline calls what was exported; the module that stands there says eval and is never run.
    network.forward = functools.wraps(network.forward)(lambda *args, **kwargs: exported.forward(*args, **kwargs))


@fault("velocity-sign", "flux", "flux_port", "sd3", "ltx")
def _(trial):
    pipeline = trial.faulty.pipeline
    if trial.faulty.kind == "flux_port":
        wrap(pipeline.transformer, "forward", lambda forward, *a, **k: -forward(*a, **k))
    elif trial.draw.random() < 0.5:  # the network was trained on image - noise
        wrap(pipeline.transformer, "forward", lambda forward, *a, **k: (-forward(*a, **k)[0],))
    else:  # the sampler expects image - noise
        wrap(pipeline.scheduler, "step", lambda step, model_output, *a, **k: step(-model_output, *a, **k))


@fault("prediction-type", "sd15", "sd15_dpm", "sd15_euler", "sd15_unipc")
def _(trial):
    types = ["v_prediction", "epsilon"]
    if trial.draw.random() < 0.3:  # an epsilon model taken for a v model
        types.reverse()
    trial.healthy.pipeline.scheduler.register_to_config(prediction_type=types[0])
    trial.faulty.pipeline.scheduler.register_to_config(prediction_type=types[1])


@fault("export-constant-folded", "flux", "flux_port", "sd15", "sd3", "wan")
def _(trial):
    scale = 1 if trial.faulty.kind in ("flux", "flux_port") else 1000
    traced_at = trial.draw.uniform(0.2, 0.8) * scale
    for network in networks(trial.faulty):
        signature = inspect.signature(network.forward)

        def folded(forward, *args, _signature=signature, **kwargs):
            bound = _signature.bind(*args, **kwargs)
            bound.arguments["timestep"] = torch.full_like(torch.as_tensor(bound.arguments["timestep"]), traced_at)
            return forward(*bound.args, **bound.kwargs)

        wrap(network, "forward", folded)


@fault("adaln-shift-scale-swapped", "flux", "flux_port", "sd3")
def _(trial):
    network = networks(trial.faulty)[0]
    linear = network.final_layer.modulation.lin if trial.faulty.kind == "flux_port" else network.norm_out.linear
    with torch.no_grad():
        for parameter in (linear.weight, linear.bias):
            parameter.copy_(torch.cat(parameter.chunk(2)[::-1]))


@fault("gate-up-swapped", "sd15", "sdxl", "sd15_inpaint")
def _(trial):
    for gated in submodules(networks(trial.faulty)[0], "GEGLU").values():
        with torch.no_grad():
            for parameter in (gated.proj.weight, gated.proj.bias):
                parameter.copy_(torch.cat(parameter.chunk(2)[::-1]))


@fault("qk-norm-config", "flux", "flux_port", "sd3", "wan", "qwen")
def _(trial):
    other_width = trial.faulty.kind in ("flux", "qwen") and trial.draw.random() < 0.4

    def across_heads(forward, x):
        """(B, L, H, D): one root mean square for all heads of a token."""
        eps = 1e-6
        return forward(x) * (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() / (x.pow(2).mean((-1, -2), keepdim=True) + eps).sqrt()

    for network in networks(trial.faulty):
        for module in submodules(network, "QKNorm").values():
            wrap(module, "forward", lambda _forward, q, k: (q, k))
        for module in submodules(network, having="norm_q").values():
            for name in ("norm_q", "norm_k", "norm_added_q", "norm_added_k"):
                if getattr(module, name, None) is None:
                    continue
                if other_width:
                    wrap(getattr(module, name), "forward", across_heads)
                else:
                    setattr(module, name, nn.Identity())


@fault("norm-eps", "flux", "sd15", "sdxl", "wan", "qwen")
def _(trial):
    """On both sides the weights in front of the norms are small, as training leaves them; there an epsilon counts."""
    norms = submodules(networks(trial.faulty)[0], nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, "RMSNorm")
    kind = trial.draw.choice(sorted({type(m).__name__ for m in norms.values()}))
    shrink = trial.draw.uniform(0.03, 0.1)
    first = ("x_embedder", "conv_in", "patch_embedding", "img_in", "pos_embed.proj")
    for host in (trial.faulty, trial.healthy):
        with torch.no_grad():
            for name, parameter in networks(host)[0].named_parameters():
                if name.startswith(first) or ".proj_in." in name or (kind == "RMSNorm" and ".to_q." in name):
                    parameter.mul_(shrink)
    for norm in norms.values():
        if type(norm).__name__ == kind:
            norm.eps = 1e-5 if norm.eps < 5e-6 else 1e-6


@fault("gelu-tanh-vs-exact", "flux", "flux_port", "sd15", "sd3", "wan", "qwen")
def _(trial):
    for network in networks(trial.faulty):
        for layer in submodules(network, "GELU").values():
            layer.approximate = "none" if layer.approximate == "tanh" else "tanh"
        for layer in submodules(network, "GEGLU").values():
            wrap(layer, "gelu", lambda _gelu, gate: F.gelu(gate, approximate="tanh"))


@fault("missing-keys-nonstrict", "flux", "flux_port", "sd15", "sd3", "wan", "qwen")
def _(trial):
    network = trial.draw.choice(networks(trial.faulty))
    lists = [m for m in submodules(network, nn.ModuleList).values() if len(m) > 1 and submodules(m[0], nn.Linear)]
    renamed = trial.draw.choice(list(trial.draw.choice(lists))) if trial.draw.random() < 0.5 else trial.draw.choice(block_linears(trial.faulty))
    with seeded(trial.draw.getrandbits(31)):
        for module in renamed.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()


@fault("checkpoint-file-corrupt", "flux", "flux_port", "sd15", "sd3", "wan", "qwen")
def _(trial):
    """Some bytes of one tensor are others; the sign and most of the exponent are spared, so that the tensor stays finite."""
    weight = trial.draw.choice(block_linears(trial.faulty)).weight
    values = weight.detach().clone().numpy()
    octets = values.reshape(-1).view("uint8")
    start = trial.draw.randrange(values.size // 2)
    for i in range(start, start + values.size // 4):
        octets[4 * i + trial.draw.choice([1, 2])] ^= trial.draw.randrange(1, 256)
    with torch.no_grad():
        weight.copy_(torch.from_numpy(values))
