"""What do published error figures fix about two tensors, what do they exclude, and what do they leave open?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from whydiff.audits.result import Table
from whydiff.measure.published import Published, monte_carlo, normal_pairs
from whydiff.measure.published_families import Judged

SPREADS, CORRELATIONS = np.geomspace(0.5, 2.5, 60), np.linspace(-0.5, 0.95, 60)


def what_they_fix(published: Published) -> Table:
    """One row for each thing that follows from the figures alone."""
    spread, (low, high) = published.spread, published.scale_free()
    independent = published.scale_free(correlations=[0.0])
    predicted, error = published.mean_of()
    return Table(("from", "follows", "value"), (
        ("mean abs", "s sqrt(1 - rho), if both spreads are s", f"{spread.value:.3f} ({spread.low:.4f} to {spread.high:.4f})"),
        ("mean abs", "rho, if both spreads are 1", f"{published.correlation(1.0):.3f}"),
        ("mean abs", "two independent unit normals would give", f"{predicted:.4f} ± {error:.4f}"),
        ("mean abs", "which is away from the published value by", f"{published.errors_away():.1f} standard errors"),
        ("max abs", "P(no larger, given the mean), independent normal elements", f"{published.largest_given_mean():.2g}"),
        ("max and mean rel", "gamma = q sqrt(1 - rho²), whatever the scale; rho 0", f"{independent[0]:.2f} to {independent[1]:.2f}"),
        ("max and mean rel", "the same, rho 0 to 0.95", f"{low:.2f} to {high:.2f}"),
        ("max rel", "P(no larger) for two independent tensors of equal spread", f"{published.largest_ratio(0.0, 1.0):.2g}"),
    ))  # fmt: skip


def against_monte_carlo(published: Published, cases: Sequence[tuple[float, float]], draws: int, seed: int = 0) -> Table:
    """The formulas beside simulated normal tensors of unit spread; `cases`: (rho, q)."""
    rows = []
    for rho, q in cases:
        drawn = monte_carlo(normal_pairs(published.elements, draws, rho, q, seed=seed))
        mean, deviation = published.mean_of(1.0, rho, q)
        rows.append((rho, q, mean, float(drawn.mean_abs.mean()), (float(drawn.mean_abs.mean()) - mean) / deviation * draws**0.5,
                     published.largest_ratio(rho, q), float((drawn.max_rel <= published.max_rel.value).mean())))  # fmt: skip
    return Table(("rho", "q", "mean abs, formula", "drawn", "standard errors apart", "P(max rel no larger), formula", "drawn share"),
                 tuple(rows))  # fmt: skip


def region(published: Published) -> np.ndarray:
    """P(mean rel >= the published one), (len(SPREADS), len(CORRELATIONS)): what `views.ratio_region` draws."""
    return np.array([[published.ratio_tail(rho, q) for rho in CORRELATIONS] for q in SPREADS])


def hypotheses(judged: Sequence[Judged]) -> Table:
    """Each family with its fitted scale, the medians of its figures, and what is said of it."""
    rows = tuple((j.name, j.s, *(float(np.median(getattr(j.drawn, name))) for name in ("mean_abs", "max_abs", "mean_rel")), j.words)
                 for j in judged)  # fmt: skip
    return Table(("hypothesis", "scale s", "mean abs", "max abs", "mean rel at the published max rel", "it is"), rows)


def drawn_figures(judged: Sequence[Judged]) -> list[tuple]:
    """What `views.families` draws."""
    return [(j.name, j.drawn.max_abs, j.drawn.mean_rel, j.excluded) for j in judged]
