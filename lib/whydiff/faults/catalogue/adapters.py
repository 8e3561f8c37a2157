"""Faults of low-rank adapters. Both sides get the adapter, merged into the weights; one side scales or converts it wrongly."""

from __future__ import annotations

import math

import torch

from whydiff.faults.fault import Trial, fault
from whydiff.faults.surgery import block_linears, matching, networks, normal


def adapted_layers(trial: Trial, most: int = 4) -> list:
    """Some linear layers of the faulty side that the adapter was trained on, with the healthy side's."""
    layers = block_linears(trial.faulty)
    chosen = trial.draw.sample(layers, trial.draw.randint(1, min(most, len(layers))))
    return [(layer, matching(trial, layer)) for layer in chosen]


def low_rank(trial: Trial, layer, rank: int, strength: float = 0.5) -> torch.Tensor:
    """up @ down, of `strength` times the layer's own size."""
    delta = normal(trial, layer.weight.shape[0], rank) @ normal(trial, rank, layer.weight.shape[1])
    return delta * strength * layer.weight.norm() / delta.norm()


@fault("lora-alpha-default", "flux", "sd15", "sd3", "wan", "sdxl")
def _(trial):
    rank = trial.draw.choice([4, 8])
    # The file has no alpha: that means alpha = rank. Read as 1, the adapter gets 1 / rank; or the other way round.
    right, wrong = (1.0, 1 / rank) if trial.draw.random() < 0.7 else (1 / rank, 1.0)
    for broken, healthy in adapted_layers(trial):
        delta = low_rank(trial, broken, rank)
        with torch.no_grad():
            healthy.weight.add_(right * delta)
            broken.weight.add_(wrong * delta)


@fault("lora-lokr-alpha", "flux", "sd15", "sd3", "wan")
def _(trial):
    rank = trial.draw.choice([8, 16, 32])
    alpha = trial.draw.choice([1.0, 2.0, 4.0])
    for broken, healthy in adapted_layers(trial):
        rows, columns = broken.weight.shape
        small = (math.gcd(rows, 4), math.gcd(columns, 4))
        product = torch.kron(normal(trial, *small), normal(trial, rows // small[0], columns // small[1]))
        product = product * broken.weight.norm() / product.norm()
        with torch.no_grad():
            healthy.weight.add_(alpha / rank * product)
            broken.weight.add_(product)  # w1 and w2 come undecomposed, so nobody divides by the rank


@fault("lora-adaln-both-factors", "flux", "sd3")
def _(trial):
    rank = trial.draw.choice([2, 4, 8])
    broken, healthy = (networks(host)[0].norm_out.linear for host in (trial.faulty, trial.healthy))
    up, down = normal(trial, broken.weight.shape[0], rank), normal(trial, rank, broken.weight.shape[1])
    scale = 0.5 * broken.weight.norm() / (up @ down).norm()

    def swapped(matrix, axis):
        return torch.cat(matrix.chunk(2, axis)[::-1], axis)

    # The other layout has scale before shift: the rows of `up` move, and nothing else.
    with torch.no_grad():
        healthy.weight.add_(scale * swapped(up, 0) @ down)
        broken.weight.add_(scale * swapped(up, 0) @ swapped(down, 1))
