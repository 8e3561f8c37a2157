"""The kernel for tensors on a GPU, run by Triton's interpreter on the CPU: the figures of the plain pass."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from whydiff.measure.onepass import plain

PROGRAM = """
import json, torch
from whydiff.measure.onepass import fused, plain

g = torch.Generator().manual_seed(0)
found = []
def both(name, a, b):
    mine, theirs = vars(fused.totals(a, b)), vars(plain.totals(a, b, False))
    found.append([name, {k: [mine[k], theirs[k]] for k in theirs if k not in ("low", "high")}])

for n, one, other in ((9_001, torch.float32, torch.bfloat16), (300, torch.float16, torch.float16)):
    a = (torch.randn(n, generator=g) + 3).to(one)
    b = (a.float() + 0.01 * torch.randn(n, generator=g)).to(other)
    both("finite", a, b)
    a[7], b[9], a[11], b[11] = float("nan"), float("inf"), float("nan"), float("nan")
    both("not finite", a, b)
a = torch.randn(9000, generator=g)
both("equal", a, a.clone())
both("too small for float32", a * 1e-25, a * 1e-25 * 1.001)
both("too large for float32", a * 1e30, -a * 1e30)
both("a first value far off", torch.cat([torch.full((1024,), 1e6), a]), torch.cat([torch.full((1024,), 1e6), a + 1]))
both("a zero reference", torch.zeros(9000), a)
print(json.dumps(found))
"""


def test_the_kernel_gives_the_figures_of_the_plain_pass():
    pytest.importorskip("triton", reason="Triton has no wheel for this system")
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(pathlib.Path(plain.__file__).parents[3])}
    found = json.loads(subprocess.check_output([sys.executable, "-c", PROGRAM], text=True, env=environment))
    assert len(found) == 9
    for name, figures in found:
        for key, (mine, theirs) in figures.items():
            scale = {"dot": "norm_a", "covar": "var_a"}.get(key)
            assert mine == theirs or mine == pytest.approx(theirs, 1e-6, 1e-6 * abs(figures[scale][1]) if scale else 0), (name, key)
