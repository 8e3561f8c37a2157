"""Could this side have drifted at all? Disturb one frame, and see which other frames move."""

from __future__ import annotations

import torch

from whydiff.audits.result import AuditResult, Sentence
from whydiff.errors import Trouble
from whydiff.evidence.floor import STANDS_OUT
from whydiff.evidence.recording.recorder import Recorder
from whydiff.evidence.sides.runnable import RunnableSide
from whydiff.measure.frames import first_beyond, frame_differences
from whydiff.places import Place

NAME = "drift"
QUESTION = "Does a frame depend on the frames before it, so that errors could build up at all?"


def influence(side: RunnableSide, frame: int, probe: str = "initial_noise", seed: int = 20260117) -> list[float]:
    """Relative L2 change of each frame of the video when the noise of one frame is exchanged and nothing else.

    0 on all frames but `frame`: they are made independently. `seed` is far from those that people type, or the noise put in could be
    the very noise that is there. Raises Trouble where the side makes no such frame or no video.
    """
    own = side.run()
    place = Place(probe, occurrence=frame)
    if place not in own or own["image"].dim() != 5:
        raise Trouble(f"{side.role} ({side.name}): {probe} of frame {frame} was not recorded, or the side returns no video. "
                      f"Tap {probe} once in each frame, and return frames.")  # fmt: skip
    other = torch.randn(own[place].shape, generator=torch.Generator().manual_seed(seed))

    def exchange(at: Place, value: torch.Tensor):
        return other.to(value) if at == place else None

    return frame_differences(own["image"], side.run(Recorder(substitute=exchange))["image"])


def repeatability(side: RunnableSide) -> list[float]:
    """Relative L2 distance of each frame from itself when the side runs twice."""
    return frame_differences(side.run()["image"], side.run()["image"])


def audit(sides: dict[str, RunnableSide], frame: int = 0) -> AuditResult:
    """For each side, which frames move when `frame` is disturbed. `vacuous`: on some side none does but that one, so that
    "no drift over time" was certain before it ran."""
    moved, findings, table = {}, [], []
    for name, side in sides.items():
        change = influence(side, frame)
        limits = [STANDS_OUT * max(d, torch.finfo(torch.float32).eps) for d in repeatability(side)]
        later = first_beyond(change[frame + 1 :], limits[frame + 1 :])
        count = sum(d > limit for d, limit in zip(change[frame + 1 :], limits[frame + 1 :]))
        moved[name] = change
        words = "no later frame moves: its frames are made independently, and cannot drift" if later is None else \
            f"{count} of {len(change) - frame - 1} later frames move: what goes wrong in one frame can stay"  # fmt: skip
        findings.append(Sentence(f"{name}: when the noise of frame {frame} is exchanged, {words}"))
        table.append((name, change[frame], count, len(change) - frame - 1, later is not None))
    blind = any(not row[-1] for row in table)
    return AuditResult(NAME, QUESTION, "vacuous" if blind else "different", tuple(findings),
                       ("side", f"frame {frame} itself moves by", "later frames that move", "of", "could drift"), tuple(table),
                       {"influence": moved, "frame": frame})  # fmt: skip
