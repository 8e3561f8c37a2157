"""`whydiff schedule`: print noise levels, or find the settings that explain observed ones."""

from __future__ import annotations

import json
import math
from typing import Annotated

import typer

from whydiff.errors import Trouble, did_you_mean

ALIASES = {"flow": "trailing", "linear": "trailing"}


def command(
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Number of inference steps.")] = None,
    shift: Annotated[float | None, typer.Option("--shift", help="Static shift.")] = None,
    mu: Annotated[float | None, typer.Option("--mu", help="Dynamic shift: mu = log(shift).")] = None,
    tokens: Annotated[int | None, typer.Option("--tokens", min=1, help="Length of the latent sequence, which gives mu as FLUX "
                      "does: (H/16)(W/16).")] = None,
    last: Annotated[float | None, typer.Option("--last", help="The last sigma before shifting; 1/steps unless given.")] = None,
    grid: Annotated[str | None, typer.Option("--grid", help="flow (the default), thousandth, flow_match_euler, unipc, "
                    "unipc_0.36, flow_unipc.")] = None,
    boundary: Annotated[float | None, typer.Option("--boundary", help="Sigma at which the second expert takes over "
                        "(Wan2.2: 0.875).")] = None,
    solve: Annotated[str | None, typer.Option("--solve", metavar="WHAT", help="switch=STEP, sigmas=1,0.9,..., "
                     "timesteps=1000,..., or a file that holds them.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:  # fmt: skip
    """Print a sigma and timestep schedule. With --solve: which settings explain this observation?"""
    grid = _known(grid)
    if solve is not None:
        what, equals, value = solve.partition("=")
        if what == "switch" and equals:
            return _solve_switch(value, steps, boundary, grid, as_json)
        return _solve_sigmas(what if equals else "", value if equals else solve, steps, tokens, as_json)
    if steps is None:
        raise Trouble("give --steps, the number of inference steps (or --solve with an observation).")
    return _print(steps, _shift(shift, mu, tokens), last, grid, boundary, as_json)


def _known(grid: str | None) -> str | None:
    from whydiff.formulas.schedule import GRIDS

    grid = ALIASES.get(grid, grid)
    if grid is not None and grid not in GRIDS:
        raise Trouble(f"unknown grid {grid!r}.{did_you_mean(grid, [*GRIDS, *ALIASES])} Known: flow, {', '.join(GRIDS)}.")
    return grid


def _shift(shift: float | None, mu: float | None, tokens: int | None) -> float:
    from whydiff.formulas.schedule import mu_from_tokens, shift_from_mu

    if sum(value is not None for value in (shift, mu, tokens)) > 1:
        raise Trouble("give one of --shift, --mu and --tokens: each says how far the grid is shifted.")
    if shift is not None and not (shift > 0 and math.isfinite(shift)):
        raise Trouble(f"--shift must be above 0, got {shift:g}.")
    mu = mu_from_tokens(tokens) if tokens is not None else mu
    return shift_from_mu(mu) if mu is not None else 1.0 if shift is None else shift


def _print(steps: int, shift: float, last: float | None, grid: str | None, boundary: float | None, as_json: bool) -> int:
    from whydiff.formulas.schedule import (
        GRIDS,
        INTEGER_TIMESTEPS,
        flow_euler_sigmas,
        grid_sigmas,
        switch_step,
        timesteps_from_sigmas,
    )

    grid = grid or "trailing"
    if last is not None and grid != "trailing":
        raise Trouble(f"--last belongs to the grid flow; {grid} has an end of its own.")
    sigmas = flow_euler_sigmas(steps, shift=shift, last=last) if grid == "trailing" else grid_sigmas(grid, steps, shift)
    timesteps = timesteps_from_sigmas(sigmas, integer=grid in INTEGER_TIMESTEPS)
    switch = None if boundary is None else switch_step(timesteps if grid in INTEGER_TIMESTEPS else sigmas, boundary)
    if as_json:
        print(json.dumps({"grid": grid, "steps": steps, "shift": shift, "mu": math.log(shift), "sigmas": sigmas.tolist(),
                          "timesteps": timesteps.tolist(), "boundary": boundary, "switch": switch}, indent=1))  # fmt: skip
        return 0
    print(f"{GRIDS[grid][1]}; {steps} steps, shift {shift:.6g} (mu {math.log(shift):.6g})")
    print("step      sigma   timestep")
    for step, (sigma, timestep) in enumerate(zip(sigmas, timesteps, strict=True)):
        note = "  <- first below the boundary: the second expert takes over" if step == switch else ""
        print(f"{step:4d}  {sigma:9.6f}  {timestep:9.3f}{note}")
    if switch == steps:
        print(f"no step is below the boundary {boundary:g}")
    return 0


def _solve_switch(value: str, steps: int | None, boundary: float | None, grid: str | None, as_json: bool) -> int:
    from whydiff.formulas.schedule_switch import solve_switch

    if steps is None or boundary is None:
        raise Trouble("--solve switch=STEP also needs --steps and --boundary (Wan2.2: --boundary 0.875).")
    if not value.strip().lstrip("-").isdigit():
        raise Trouble(f"--solve switch={value}: a step counted from 0 (tqdm shows one more).")
    found = solve_switch(steps, boundary, int(value), grid)
    if as_json:
        rows = [{"grid": i.grid, "low": i.low, "high": None if math.isinf(i.high) else i.high, "steps": steps,
                 "boundary": boundary, "switch": i.switch} for i in found]  # fmt: skip
        print(json.dumps(rows, indent=1))
    else:
        for interval in found:
            print(interval)
        if not found:
            print(f"no shift switches at step {value} of {steps}")
    return 0 if found else 1


def _solve_sigmas(what: str, value: str, steps: int | None, tokens: int | None, as_json: bool) -> int:
    from whydiff.formulas.schedule_solve import solve_schedule

    if what not in ("", "sigmas", "timesteps", "values"):
        raise Trouble(f"--solve {what}=...: unknown.{did_you_mean(what, ['switch', 'sigmas', 'timesteps'])} "
                      "Known: switch=STEP, sigmas=1,0.9,..., timesteps=1000,..., or a file.")  # fmt: skip
    fits = solve_schedule(_observed(value, what or "sigmas"), steps=steps, tokens=tokens)
    if as_json:
        print(json.dumps([fit.to_dict() for fit in fits], indent=1))
    else:
        for fit in [f for f in fits if f.explains] or fits[:3]:
            print(fit)
    return 0 if any(fit.explains for fit in fits) else 1


def _observed(value: str, what: str) -> list[float]:
    """Numbers from the command line, from a text file, or from any tensor file (a trace's own probe of that name)."""
    import pathlib

    words = value.replace(",", " ").split()
    try:
        return [float(word) for word in words]
    except ValueError:
        pass
    path = pathlib.Path(value)
    if path.suffix in (".txt", ".csv", ".json", "") and path.is_file():
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        try:
            return [float(word) for word in text.translate(str.maketrans("[],;", "    ")).split()]
        except ValueError:
            raise Trouble(f"{path}: expected numbers only, separated by commas or white space.") from None
    from whydiff.evidence.traces.files import read_tensors

    tensors = read_tensors(path)
    chosen = next((t for name, t in tensors.items() if name == what), None)
    if chosen is None:
        if len(tensors) != 1:
            raise Trouble(f"{path} holds {', '.join(list(tensors)[:8])}, but no {what!r}.")
        chosen = next(iter(tensors.values()))
    return chosen.double().flatten().tolist()
