"""Noise levels of flow matching and diffusion: grids, shifts and conversions as pure functions.

Scales: sigma is in [0, 1], 1 = noise, 0 = image; a timestep is 1000 sigma unless said otherwise; mu = log(shift).
Grids are numpy float64, (N,), descending, one value per step; a final 0 is appended only where asked for.
"""

import math

import numpy as np

from whydiff.errors import Trouble


def linear_grid(n: int, first: float = 1.0, last: float | None = None) -> np.ndarray:
    """n values from ``first`` to ``last``, both included; ``last`` is 1/n unless given.

    With the default this is 1 - i/n, what diffusers' FLUX and Qwen-Image pipelines pass, and the first n of BFL's
    linspace(1, 0, n + 1).
    """
    if n < 1:
        raise Trouble(f"a schedule needs at least one step, got {n}.")
    return np.linspace(first, 1.0 / n if last is None else last, n)


def shift_sigmas(sigmas, shift: float):
    """σ' = s σ / (1 + (s - 1) σ): Esser et al. 2024 (arXiv 2403.03206), section 5.3.2. Keeps 0 and 1; any array type."""
    sigmas = _array(sigmas)
    return shift * sigmas / (1 + (shift - 1) * sigmas)


def unshift_sigmas(sigmas, shift: float):
    """The inverse of `shift_sigmas`: σ = σ' / (s - (s - 1) σ'), which is a shift by 1/s."""
    return shift_sigmas(sigmas, 1.0 / shift)


def mu_from_tokens(tokens: float, base_shift: float = 0.5, max_shift: float = 1.15, base_tokens: int = 256,
                   max_tokens: int = 4096) -> float:
    """mu on the line through (base_tokens, base_shift) and (max_tokens, max_shift); tokens = (H/16) (W/16) for FLUX.

    `calculate_shift` in diffusers pipelines/flux/pipeline_flux.py; `get_lin_function` in BFL flux sampling.py.
    """
    slope = (max_shift - base_shift) / (max_tokens - base_tokens)
    return slope * tokens + base_shift - slope * base_tokens


def tokens_from_mu(mu: float, base_shift: float = 0.5, max_shift: float = 1.15, base_tokens: int = 256,
                   max_tokens: int = 4096) -> float:
    """The inverse of `mu_from_tokens`; not rounded to an integer."""
    return base_tokens + (mu - base_shift) * (max_tokens - base_tokens) / (max_shift - base_shift)


def shift_from_mu(mu: float) -> float:
    """exp(mu): dynamic shifting is a shift by exp(mu) ('exponential' time_shift_type with exponent 1)."""
    return math.exp(mu)


def mu_from_shift(shift: float) -> float:
    """log(shift), the inverse of `shift_from_mu`; shift > 0."""
    return math.log(shift)


def stretch_to_terminal(sigmas, terminal: float):
    """1 - (1 - σ) (1 - terminal) / (1 - σ_last), so that the last sigma is ``terminal``: LTX-Video, rf.py."""
    rest = 1 - _array(sigmas)
    return 1 - rest * ((1 - terminal) / rest[-1])


def karras_sigmas(n: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> np.ndarray:
    """(σmax^(1/ρ) + i/(n-1) (σmin^(1/ρ) - σmax^(1/ρ)))^ρ: Karras et al. 2022 (arXiv 2206.00364), equation 5.

    In units of signal, so it may exceed 1; flow matching takes σ / (1 + σ).
    """
    ramp = np.linspace(0, 1, n)
    return (sigma_max ** (1 / rho) + ramp * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))) ** rho


def exponential_sigmas(n: int, sigma_min: float, sigma_max: float) -> np.ndarray:
    """Equal steps of log σ from ``sigma_max`` to ``sigma_min``; k-diffusion `get_sigmas_exponential`."""
    return np.exp(np.linspace(math.log(sigma_max), math.log(sigma_min), n))


def flow_euler_sigmas(n: int, shift: float | None = None, mu: float | None = None, last: float | None = None,
                      terminal: bool = False) -> np.ndarray:
    """Flow-matching sigmas: `linear_grid` shifted by ``shift``, or by exp(mu); ``terminal`` appends the final 0.

    With neither shift nor mu the grid itself. Raises Trouble when both are given.
    """
    if shift is not None and mu is not None:
        raise Trouble("give shift or mu, not both: dynamic shifting (mu) replaces the static shift.")
    shift = shift_from_mu(mu) if mu is not None else 1.0 if shift is None else shift
    return _ended(shift_sigmas(linear_grid(n, 1.0, last), shift), terminal)


# Where each grid starts and ends before it is shifted, as functions of the number of steps n and the shift s.
# 'unipc' grids take n of n + 1 values. Version by version in data/facts and shared/facts/flux_wan.md, B2.
def _trailing(n, s):
    return linear_grid(n)


def _thousandth(n, s):
    return linear_grid(n, 1.0, 0.001)


def _flow_match_euler(n, s):
    # The constructor shifts sigma_min = 0.001, and set_timesteps shifts the grid that ends there once more.
    return linear_grid(n, 1.0, shift_sigmas(0.001, s))


def _unipc(n, s):
    return np.linspace(1, 0.001, n + 1)[:-1]


def _unipc_0_36(n, s):
    return np.linspace(0.999, 0, n + 1)[:-1]


def _flow_unipc(n, s):
    # The constructor shifts sigma_max = 0.999; the grid that starts there is shifted once more.
    return np.linspace(shift_sigmas(0.999, s), 0, n + 1)[:-1]


GRIDS = {
    "trailing": (_trailing, "linspace(1, 1/N, N), as in diffusers' FLUX pipelines, black-forest-labs/flux and SGLang"),
    "thousandth": (_thousandth, "linspace(1, 0.001, N), as in FastVideo's FLUX pipeline and the original LongCat-Video"),
    "flow_match_euler": (_flow_match_euler, "FlowMatchEulerDiscreteScheduler on its own (end shifted twice)"),
    "unipc": (_unipc, "UniPC flow sigmas of diffusers from 0.37 on"),
    "unipc_0.36": (_unipc_0_36, "UniPC flow sigmas of diffusers up to 0.36, official Wan2.2"),
    "flow_unipc": (_flow_unipc, "FlowUniPCMultistepScheduler of SGLang and FastVideo (start shifted twice)"),
}
INTEGER_TIMESTEPS = ("unipc", "unipc_0.36", "flow_unipc")  # these truncate 1000 sigma to an integer


def grid_sigmas(grid: str, n: int, shift: float = 1.0, terminal: bool = False) -> np.ndarray:
    """The shifted sigmas of one of `GRIDS`. Raises Trouble for an unknown name."""
    if grid not in GRIDS:
        raise Trouble(f"unknown grid {grid!r}. Known: {', '.join(GRIDS)}.")
    sigmas = shift_sigmas(GRIDS[grid][0](n, shift), shift)
    if grid == "unipc" and abs(sigmas[0] - 1) < 1e-6:
        sigmas[0] -= 1e-6  # as diffusers does, against log(0) in the multistep update
    return _ended(sigmas, terminal)


def wan_unipc_sigmas(n: int, shift: float, version: str = "0.42.1", terminal: bool = False) -> np.ndarray:
    """Sigmas of the Wan models' UniPC scheduler. ``version``: of diffusers ("0.36.0"), "official", "sglang", "fastvideo".

    diffusers changed the grid in 0.37.0 (huggingface/diffusers#12109); official Wan2.2 kept the one before.
    """
    return grid_sigmas(_unipc_grid(version), n, shift, terminal)


def timesteps_from_sigmas(sigmas, scale: float = 1000.0, integer: bool = False):
    """scale · σ; ``integer`` truncates as the UniPC schedulers' cast to int64 does."""
    timesteps = _array(sigmas) * scale
    return np.trunc(np.asarray(timesteps, dtype=np.float64)) if integer else timesteps


def switch_step(values, boundary: float) -> int:
    """The first step, from 0, whose sigma (or timestep) is below ``boundary`` (0.875) times the scale of the values.

    Values above 1.5 are taken as timesteps of scale 1000. len(values) where none is below: no switch.
    """
    values = np.asarray(values, dtype=np.float64)
    timesteps = bool(values.size) and values.max() > 1.5
    below = values < (boundary * 1000.0 - 1e-9 if timesteps else boundary)  # 0.9 · 1000 must not count timestep 900 as below
    return int(below.argmax()) if below.any() else len(values)


def _unipc_grid(version: str) -> str:
    named = {"official": "unipc_0.36", "wan2.2": "unipc_0.36", "sglang": "flow_unipc", "fastvideo": "flow_unipc"}
    if version.lower() in named:
        return named[version.lower()]
    try:
        parts = tuple(int(p) for p in version.split(".")[:2])
    except ValueError:
        raise Trouble(f"unknown version {version!r}. Give a diffusers version or one of {', '.join(named)}.") from None
    return "unipc" if parts >= (0, 37) else "unipc_0.36"


def _array(values):
    return np.asarray(values, dtype=np.float64) if isinstance(values, (list, tuple)) else values


def _ended(sigmas: np.ndarray, terminal: bool) -> np.ndarray:
    return np.append(sigmas, 0.0) if terminal else sigmas
