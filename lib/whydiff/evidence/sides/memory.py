"""How much memory is left on a device."""

from __future__ import annotations

import os
import pathlib

import torch


def free_bytes(device: torch.device) -> int:
    """What models can still be loaded into, on `cuda:N` or in the machine's own memory."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = dict(line.split(":", 1) for line in pathlib.Path("/proc/meminfo").read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
