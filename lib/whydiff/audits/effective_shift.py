"""Which shift does dynamic shifting come to at a size, and what does it do to the schedule?"""

from __future__ import annotations

from whydiff.audits.result import Table
from whydiff.formulas.schedule import flow_euler_sigmas, mu_from_shift, mu_from_tokens, shift_from_mu, tokens_from_mu

HIGH = 0.9  # sigma from which on a step decides about composition; a mark to count at, no threshold of a verdict


def tokens_of(height: int, width: int) -> int:
    """Packed tokens of a FLUX picture: (H/16) (W/16)."""
    return (height // 16) * (width // 16)


def steps_from(sigmas, level: float = HIGH) -> int:
    """How many of (N,) or (N + 1,) sigmas are at `level` or above."""
    return int(sum(float(sigma) >= level for sigma in sigmas))


def by_size(sizes: list[tuple[int, int]], factors: dict[str, float], steps: int, level: float = HIGH) -> Table:
    """For each (width, height) and each way to count tokens, a factor on the packed count: mu, exp(mu) and the schedule."""
    rows = []
    for width, height in sizes:
        for name, factor in factors.items():
            count = factor * tokens_of(height, width)
            mu = mu_from_tokens(count)
            sigmas = flow_euler_sigmas(steps, mu=mu)
            rows.append((f"{width} x {height}", name, f"{count:g}", f"{mu:.6f}", f"{shift_from_mu(mu):.4g}",
                         f"{steps_from(sigmas, level)} of {steps}", f"{sigmas[-1]:.4f}"))  # fmt: skip
    return Table(("size", "tokens counted as", "tokens", "mu", "exp(mu)", f"steps at sigma {level:g} or above", "last sigma"), tuple(rows))


def tokens_at_which(shift: float) -> float:
    """The token count at which dynamic shifting comes to a static `shift`, on FLUX's line."""
    return tokens_from_mu(mu_from_shift(shift))
