"""What programmers get wrong about single torch functions: one line for each variant. A line tells which functions it
concerns, what it makes of a call, and which catalogue id it has (by the role of the module; None: no id, but worth telling).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from whydiff.causes.inside.variants_made import (
    Variant,
    added_eps,
    as_other,
    attention,
    cat_exchanged,
    computed_in,
    epsilon,
    factor,
    first_operand,
    halves_exchanged,
    interpolate,
    inverted,
    kept,
    local_mean,
    needs_mask,
    negated,
    ordered,
    other_sides,
    padded,
    parts_apart,
    rounded,
    second_operand,
    swap,
    tanh_or_exact,
)

ATTENTION = ("scaled_dot_product_attention",)
NORMS = ("layer_norm", "rms_norm", "group_norm")
CHUNKS = ("chunk", "split", "unbind", "split_with_sizes", "tensor_split")
ARITHMETIC = ("add", "__add__", "__radd__", "__iadd__", "mul", "__mul__", "__rmul__", "div", "__truediv__", "sub", "__sub__", "add_")
PRODUCTS = ("mul", "__mul__", "__rmul__", "div", "__truediv__", "mul_", "__imul__", "true_divide")
SUMS = ("add", "__add__", "__radd__", "__iadd__")

VARIANTS: tuple[Variant, ...] = (
    Variant(("gelu",), "GELU in its tanh form against the exact one", "gelu-tanh-vs-exact", tanh_or_exact, 0),
    Variant(("gelu",), "SiLU stands in place of GELU", "activation-function", as_other(F.silu), 1),
    Variant(("silu",), "GELU stands in place of SiLU", "activation-function", as_other(F.gelu), 1),
    Variant(ATTENTION, "the mask is left out", "attention-mask-dropped", needs_mask(lambda m, q: None), 0, ("sp-padding-unmasked",)),
    Variant(ATTENTION, "the mask is read the other way round", "attention-mask-inverted", needs_mask(inverted), 0),
    Variant(ATTENTION, "the mask is added as 1 and 0", "attention-mask-added-as-bool",
            needs_mask(lambda m, q: kept(m).to(q.dtype)), 0),
    Variant(ATTENTION, "the attention is not scaled", None, attention(lambda q, k, v, m, c, s: (q, k, v, m, c, 1.0)), 1),
    Variant(ATTENTION, "the attention is scaled by 1/d", None, attention(lambda q, k, v, m, c, s: (q, k, v, m, c, 1 / q.shape[-1])), 1),
    Variant(ATTENTION, "the attention is causal", None, attention(lambda q, k, v, m, c, s: (q, k, v, None, not c, s)), 1),
    Variant(ATTENTION, "queries and keys are exchanged", None, attention(lambda q, k, v, m, c, s: (k, q, v, m, c, s)), 2),
    Variant(ATTENTION, "keys and values are exchanged", None, attention(lambda q, k, v, m, c, s: (q, v, k, m, c, s)), 2),
    *(Variant(NORMS, f"epsilon {e:g}", "norm-eps", epsilon(e), 2) for e in (1e-5, 1e-6, 1e-8, 1e-12, 1e-7, 1e-3)),
    *(Variant(("add", "__add__", "__radd__"), f"epsilon {e:g}", "norm-eps", added_eps(e), 2) for e in (1e-5, 1e-6, 1e-8, 1e-12, 1e-7, 1e-3)),
    *(Variant(("layer_norm", "rms_norm"), f"statistics of each of {n} parts of the channels", "tp-norm-local-statistics", parts_apart(n, -1), 2)
      for n in (2, 4, 8)),
    *(Variant(("mean",), f"statistics of each of {n} parts of the channels", "tp-norm-local-statistics", local_mean(n), 2)
      for n in (2, 4, 8)),
    *(Variant(("group_norm",), f"statistics of each of {n} parts of the picture", "groupnorm-per-tile", parts_apart(n, d), 2)
      for n in (2, 3, 4) for d in (-1, -2, 2)),
    Variant(CHUNKS, "the first two parts are exchanged", "parts-exchanged", swap(0, 1), 2),
    Variant(CHUNKS, "the fourth and fifth part are exchanged", "parts-exchanged", swap(3, 4), 3),
    Variant(CHUNKS, "the second and third part are exchanged", None, swap(1, 2), 3),
    Variant(CHUNKS, "the first and third part are exchanged", None, swap(0, 2), 3),
    Variant(CHUNKS, "the halves are exchanged", None, ordered(halves_exchanged), 3),
    Variant(("cat", "concat", "concatenate"), "what is concatenated stands in the other order", "sp-concat-order", cat_exchanged, 3),
    Variant(("interpolate",), "bilinear interpolation", "decoder-upsample-mode", interpolate("bilinear", False), 1),
    Variant(("interpolate",), "bilinear interpolation with aligned corners", "decoder-upsample-mode", interpolate("bilinear", True), 1),
    Variant(("interpolate",), "nearest interpolation", "decoder-upsample-mode", interpolate("nearest"), 1),
    Variant(("interpolate",), "nearest-exact interpolation", "decoder-upsample-mode", interpolate("nearest-exact"), 1),
    Variant(("interpolate",), "bicubic interpolation", "decoder-upsample-mode", interpolate("bicubic", False), 1),
    Variant(("pad", "_pad"), "padded on the other sides", "encoder-downsample-padding", padded(other_sides), 1),
    *(Variant((), f"one result is rounded to {str(d).removeprefix('torch.')}", "rounding", rounded(d), 6)
      for d in (torch.bfloat16, torch.float16)),
    *(Variant((), f"one function is computed in {str(d).removeprefix('torch.')}", "rounding", computed_in(d), 6)
      for d in (torch.bfloat16, torch.float16)),
    Variant(ARITHMETIC, "only its first operand is used", None, first_operand, 4),
    Variant(ARITHMETIC, "only its second operand is used", None, second_operand, 4),
    Variant(PRODUCTS, "the constant factor is left out", None, factor(lambda c: 1.0), 5),
    Variant(PRODUCTS, "the constant factor is squared", None, factor(lambda c: c * c), 5),
    Variant(PRODUCTS, "the square root of the constant factor is taken", None, factor(lambda c: c**0.5), 5),
    Variant((), "the sign of one result is reversed", None, negated, 7),
)  # fmt: skip

