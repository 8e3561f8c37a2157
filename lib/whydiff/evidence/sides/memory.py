"""How much memory is left on a device, and for how many sides."""

from __future__ import annotations

import os
import pathlib
from collections import Counter
from collections.abc import Iterable

import torch

HEADROOM = 1.25  # of a side's weights: what running them takes besides


def free_bytes(device: torch.device) -> int:
    """What models can still be loaded into, on `cuda:N` or in the machine's own memory."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = dict(line.split(":", 1) for line in pathlib.Path("/proc/meminfo").read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def leaves_room(side) -> bool:
    """Is there memory for another side as large as this one, which is loaded?"""
    return room_for([side]) >= 1


def room_for(sides: Iterable) -> int:
    """How often all of these sides, which are loaded, fit into memory once more (64 where they hold nothing)."""
    tensors = {t.data_ptr(): t for side in sides for module in side.components.values() if isinstance(module, torch.nn.Module)
               for t in (*module.parameters(), *module.buffers())}  # fmt: skip
    held: Counter[torch.device] = Counter()
    for tensor in tensors.values():
        if tensor.device.type != "meta":
            held[tensor.device] += tensor.numel() * tensor.element_size()
    return min((int(free_bytes(device) // (size * HEADROOM)) for device, size in held.items() if size), default=64)
