"""Which cause a key of a scheduler's configuration is, and which other values it may have."""

from __future__ import annotations

import inspect
import typing

from whydiff.causes.schedule.recipe import Recipe

# key -> id. A key without a line is the generic `scheduler-config`.
CAUSE_OF = {
    "class": "solver-class",
    "shift": "shift-constant", "flow_shift": "shift-constant",
    "beta_schedule": "beta-schedule-name",
    "rescale_betas_zero_snr": "zero-snr-with-epsilon",
    "steps_offset": "steps-offset",
    "prediction_type": "prediction-type", "predict_epsilon": "prediction-type",
    "lower_order_final": "order-at-final-step", "euler_at_final": "order-at-final-step",
    "clip_sample": "x0-clipping", "clip_sample_range": "x0-clipping", "thresholding": "x0-clipping",
    "sample_max_value": "x0-clipping", "dynamic_thresholding_ratio": "x0-clipping",
    "algorithm_type": "solver-class", "solver_type": "solver-class", "solver_order": "solver-class",
    "skip_prk_steps": "solver-class", "predict_x0": "solver-class", "disable_corrector": "solver-class",
    "shift_terminal": "sigma-grid-endpoints", "sigma_min": "sigma-grid-endpoints", "sigma_max": "sigma-grid-endpoints",
    "use_dynamic_shifting": "shift-constant",
}  # fmt: skip

# Other ids whose mechanism gives the very same tensors.
EQUIVALENT = {
    "shift-constant": ["checkpoint-scheduler-config-ignored", "shift-applied-twice"],
    "zero-snr-with-epsilon": ["checkpoint-scheduler-config-ignored"],
    "scheduler-config": ["checkpoint-scheduler-config-ignored"],
}

# Values in use that no annotation lists.
NUMBERS = {
    "steps_offset": (0, 1), "solver_order": (1, 2, 3), "original_inference_steps": (50, 100),
    "beta_start": (0.00085, 0.0001, 0.0015), "beta_end": (0.012, 0.02, 0.0195, 0.014),
    "shift_terminal": (None, 0.02, 0.1), "clip_sample_range": (1.0, 2.0, 3.0), "sample_max_value": (1.0, 1.5),
    "sigma_min": (None, 0.002, 0.0292, 0.03), "sigma_max": (None, 80.0, 14.6146, 700.0, 500.0),
}  # fmt: skip

# What cannot change a schedule or a step, or says nothing about either by itself.
IGNORED = {"_class_name", "_diffusers_version", "trained_betas", "num_train_timesteps", "variance_type", "use_flow_sigmas"}


def cause_of(key: str) -> str:
    return CAUSE_OF.get(key, "scheduler-config")


def differing(one: dict, other: dict) -> list[str]:
    """Keys that both configurations state, differently."""
    return [k for k in one if k in other and not k.startswith("_") and one[k] != other[k]]


def alternatives(made: Recipe) -> list[tuple[str, object]]:
    """(key, value): every other value a key of this scheduler may have, by its annotation or in use."""
    found = []
    for key, parameter in inspect.signature(made.kind.__init__).parameters.items():
        if key in IGNORED or key == "self":
            continue
        now = made.config.get(key, parameter.default)
        if isinstance(now, bool):
            values = [not now]
        else:
            values = [*NUMBERS.get(key, ()), *literals(parameter.annotation)]
        found += [(key, value) for value in dict.fromkeys(values) if value != now]
    return found


def literals(annotation) -> list:
    """The values of a Literal, also inside an optional one or a string annotation."""
    if isinstance(annotation, str):
        return []
    if typing.get_origin(annotation) is typing.Literal:
        return list(typing.get_args(annotation))
    return [value for part in typing.get_args(annotation) for value in literals(part)]
