"""All figures from one read of both tensors: the same as float64 gives, whatever the types, strides, chunks and threads."""

import math
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from whydiff.measure import tensors
from whydiff.measure.compare import compare, relative_l2
from whydiff.measure.onepass import compiled, machine, plain

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
EXACT = (torch.uint8, torch.int8, torch.bool, torch.int16, torch.int32, torch.float8_e4m3fn, torch.float8_e5m2)
SUMS = ("mean_abs", "mean_rel", "relative_l2", "cosine", "correlation", "psnr")


@pytest.fixture(autouse=True)
def every_size_counts_as_large(monkeypatch):
    monkeypatch.setattr(machine, "LARGE", 1)
    monkeypatch.setattr(compiled, "_TASK", 1 << 13)
    monkeypatch.setattr(compiled, "_ORDERED", 1 << 13)
    monkeypatch.setattr(compiled, "_COLUMNS", 16)


def in_float64(a, b) -> dict:
    """The straightforward formulas over the finite elements, in extended precision where numpy has it."""
    x, y = (t.to(torch.float64).numpy().ravel() for t in (a, b))
    fine = np.isfinite(x) & np.isfinite(y)
    bad = {"nonfinite_reference": int((~np.isfinite(x)).sum()), "nonfinite_candidate": int((~np.isfinite(y)).sum())}
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    x, y = x[fine].astype(np.longdouble), y[fine].astype(np.longdouble)
    d = np.abs(x - y)
    relative = d[x != 0] / np.abs(x[x != 0])
    u, v = x - x.mean(), y - y.mean()
    norms = float(np.sqrt((u**2).sum() * (v**2).sum()))
    flat = norms <= 1e-9 * float(np.sqrt((x**2).sum() * (y**2).sum()))
    return bad | {
        "differing": int((~same).sum()), "equal": bool(same.all()), "max_abs": float(d.max()), "mean_abs": float(d.mean()),
        "max_rel": float(relative.max()) if len(relative) else None, "mean_rel": float(relative.mean()) if len(relative) else None,
        "relative_l2": None if any(bad.values()) or not (same.all() or (x != 0).any()) else
            float(np.sqrt((d**2).sum() / ((x**2).sum() or 1))),
        "correlation": None if flat else float((u * v).sum()) / norms}  # fmt: skip


def agree(found, expected: dict, keys) -> None:
    for key in keys:
        mine, theirs = getattr(found, key), expected[key]
        assert (mine is None) == (theirs is None), (key, mine, theirs)
        assert mine is None or mine == pytest.approx(theirs, 1e-6, 1e-12), key


def drawn(seed: int, shape, dtype, like=None, noise=1.0):
    g = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=g, dtype=torch.float64) * noise
    values = values if like is None else values + like.to(torch.float64)
    if dtype is torch.bool:
        return values > 0
    return (values * 3).round().clamp(0 if dtype is torch.uint8 else -100, 100).to(dtype) if dtype in EXACT[:5] else values.to(dtype)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.lists(st.integers(1, 60), min_size=1, max_size=3), st.sampled_from(FLOATS + EXACT),
       st.sampled_from(FLOATS + EXACT), st.sampled_from([0.0, 1e-3, 1.0]), st.sampled_from(["as it is", "turned", "every second", "one for all"]),
       st.integers(0, 3), st.integers(1, 3))  # fmt: skip
def test_figures_are_those_of_float64_whatever_the_types_strides_and_threads(seed, shape, one, other, noise, lies, bad, threads):
    a = drawn(seed, shape, one)
    b = drawn(seed + 1, shape, other, a, noise)
    for k, value in enumerate([math.nan, math.inf, -math.inf][:bad]):
        for t in (a, b) if k % 2 else (a,):
            if t.is_floating_point() and t.dtype not in EXACT:
                t.view(-1)[(seed + 7 * k) % t.numel()] = value
    if lies == "turned":
        a, b = a.permute(*reversed(range(a.ndim))), b.permute(*reversed(range(b.ndim))).contiguous()
    elif lies == "every second":
        a, b = (torch.stack([t, t], -1)[..., 0] for t in (a, b))
    elif lies == "one for all":
        a, b = a[:1].expand_as(a), b
    fine = (a.double().isfinite() & b.double().isfinite()).any()
    found = compiled.totals(a, b, threads=threads).figures(None)
    slow = plain.totals(a, b).figures(None)
    assert found["max_ulp"] == slow["max_ulp"] and found["equal"] == slow["equal"] and found["differing"] == slow["differing"]
    assert compiled.totals(a, b).worst == plain.totals(a, b).worst or lies == "turned"
    assert compiled.totals(a, b).first_bad == plain.totals(a, b).first_bad
    if fine:
        whole = compare(a, b)
        agree(whole, in_float64(a, b), in_float64(a, b))
        for key in SUMS:
            assert found[key] == pytest.approx(slow[key], 1e-6, 1e-9) if slow[key] is not None else found[key] is None, key
    assert relative_l2(a, b) == pytest.approx(whole.relative_l2 if fine and whole.relative_l2 is not None else relative_l2(a, b), 1e-9)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_number_of_16_bits_is_ordered_as_it_is_stored(dtype):
    every = torch.arange(-(1 << 15), 1 << 15).to(torch.int16).view(dtype)
    a = every[every.isfinite()]
    for b in (a, a.flip(0), -a, a.roll(1), a.roll(700)):
        for first in range(0, a.numel(), 9000):  # the largest of a part is not that of the whole
            x, y = a[first : first + 9000], b[first : first + 9000]
            found, slow = compiled.totals(x, y), plain.totals(x, y)
            assert (found.max_ulp, found.differing, found.low, found.high) == (slow.max_ulp, slow.differing, slow.low, slow.high)


@pytest.mark.parametrize("one,other", [(torch.float32, torch.float32), (torch.bfloat16, torch.float32), (torch.float64, torch.float16)])
def test_the_number_of_threads_changes_no_bit(one, other):
    a, b = drawn(0, (7, 12345), one), drawn(1, (7, 12345), other)
    a[3, 77] = math.nan
    found = [vars(compiled.totals(a, b, threads=n)) for n in (1, 2, 5)]
    assert found[0] == found[1] == found[2]


def test_what_is_computed_at_a_time_changes_no_bit(monkeypatch):
    a, b = drawn(0, (3, 40, 900), torch.float32).permute(2, 0, 1), drawn(1, (900, 3, 40), torch.float32)
    found = vars(compiled.totals(a, b))
    monkeypatch.setattr(compiled, "_TASK", 1 << 15)
    monkeypatch.setattr(compiled, "_ORDERED", 1 << 14)
    assert vars(compiled.totals(a, b)) == found == vars(compiled.totals(a.contiguous(), b))


def test_an_offset_costs_no_digits_of_the_correlation():
    a = drawn(0, 50_000, torch.float64) + 1e7
    b = a + drawn(1, 50_000, torch.float64)
    a[0] = b[0] = 0.0  # a guess at the mean from the first values is far off
    assert compare(a, b).correlation == pytest.approx(np.corrcoef(a, b)[0, 1], 1e-6)


def test_ratios_beyond_float32_are_counted():
    a, b = torch.full((9000,), 1e-40), torch.ones(9000)
    assert compare(a, b).max_rel == pytest.approx(float((b.double() - a.double()).max() / a.double().max()), 1e-6)


def test_values_that_overflow_a_square_are_said_to():
    a = torch.full((9000,), 1e200, dtype=torch.float64)
    found = compare(a, -a)
    assert found.relative_l2 is None and "overflows" in found.why and found.max_abs == 2e200


@pytest.mark.parametrize("large", [1, 1 << 30])  # by machine code, and by torch
@pytest.mark.parametrize("size", [1e155, 1e200, 1e300])
def test_values_whose_square_no_float_holds_are_compared(monkeypatch, size, large):
    monkeypatch.setattr(machine, "LARGE", large)
    a = torch.tensor([size, -size / 3, 5.0], dtype=torch.float64)
    b = a.clone()
    b[0] *= 2
    found = compare(a, b)
    assert (found.max_abs, found.differing, found.equal) == (size, 1, False)
    assert compare(a, a.clone()).equal


def test_the_deciding_figures_are_those_of_the_whole_pass():
    a, b = drawn(0, (50, 999), torch.bfloat16), drawn(1, (50, 999), torch.float32)
    whole, few = compare(a, b), compare(a, b, deciding=True)
    for key in ("max_abs", "mean_abs", "relative_l2", "correlation", "cosine", "nonfinite_candidate", "equal", "worst_index"):
        assert getattr(few, key) == getattr(whole, key), key
    assert few.max_rel is None and few.differing is None and "relative L2" in str(few)
    assert compare(a, a, deciding=True).equal


def test_tensors_in_one_order_of_memory_are_not_put_in_another(monkeypatch):
    a, b = (drawn(k, (2, 5, 30, 40), torch.float32).to(memory_format=torch.channels_last) for k in (0, 1))
    expected = compare(a.contiguous(), b.contiguous())
    monkeypatch.setattr(compiled, "pieces", None)
    assert compare(a, b).worst_index == expected.worst_index


def test_a_part_of_a_strided_tensor_is_that_of_the_whole():
    whole = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).permute(3, 1, 0, 2)
    flat = whole.reshape(-1)
    for start, stop in ((0, 120), (1, 119), (37, 38), (23, 24), (24, 48), (5, 100), (0, 0)):
        assert torch.equal(tensors.flat_part(whole, start, stop), flat[start:stop])


def test_without_numba_torch_gives_the_figures(monkeypatch):
    a, b = drawn(0, 9000, torch.float32), drawn(1, 9000, torch.float32)
    fast = compare(a, b)
    monkeypatch.setattr(machine, "code", lambda: None)
    slow = compare(a, b)
    assert slow.to_dict(6) == fast.to_dict(6)


def test_float16_is_read_without_the_processors_instruction_too():
    from whydiff.measure.onepass import kernels

    every = np.arange(1 << 16, dtype=np.uint16)
    found = np.array([kernels.half_by_arithmetic(bits) for bits in every], np.float32)
    assert np.array_equal(found, every.view(np.float16).astype(np.float32), equal_nan=True)


def test_numba_told_to_compile_for_any_processor_asks_for_no_instruction_that_it_may_lack():
    program = ("import numpy as np; from whydiff.measure.onepass import kernels as k; out = np.empty(2, np.float32)\n"
               "k._from_16(np.array([0x3C00, 0xC000], np.uint16), k.FLOAT16, out); print(*out)")  # fmt: skip
    lib = pathlib.Path(compiled.__file__).parents[3]
    environment = os.environ | {"PYTHONPATH": str(lib), "NUMBA_CPU_NAME": "generic"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout == "1.0 -2.0\n", done.stderr


def test_small_tensors_do_not_wait_for_a_compiler():
    program = "import sys, torch, whydiff; whydiff.compare(torch.ones(1000), torch.ones(1000)); print('numba' in sys.modules)"
    lib = pathlib.Path(plain.__file__).parents[3]
    environment = os.environ | {"PYTHONPATH": str(lib)}
    assert subprocess.check_output([sys.executable, "-c", program], text=True, env=environment).strip() == "False"
