"""A recorded run gives bit for bit what it gave alone, and leaves nothing behind: no hook, no patched function, no moved generator.

`make reliability` tries every host in every way; here are a few of each.
"""

import observed
import pytest
import torch

FEW = [("flux", "modules", torch.bfloat16, 1), ("flux_port", "around", torch.float32, 2), ("wan", "fingerprint", torch.float32, 1),
       ("sd15_sde", "folder", torch.float32, 2), ("sdxl", "memory", torch.bfloat16, 1), ("qwen", "fingerprint", torch.float32, 1)]  # fmt: skip


@pytest.mark.parametrize(("kind", "how", "dtype", "threads"), FEW)
def test_a_recorded_run_is_the_run_it_was_alone(kind, how, dtype, threads):
    assert observed.changes(kind, how, dtype, threads) == []


@pytest.mark.parametrize(("kind", "how"), [("flux", "around"), ("sd15", "modules")])
def test_a_recorded_run_that_raises_leaves_nothing_behind(kind, how):
    assert observed.changes(kind, how, raising=True) == []
