"""What benchmarks share: alternatives that take turns in one process, their memory, and tables."""

from __future__ import annotations

import dataclasses
import pathlib
import time

from written import write_section

SETTLE = 0.02  # seconds: torch's threads spin for a while after they have worked, on the cores that the next one in turn needs


@dataclasses.dataclass
class Measured:
    """Seconds of the fastest of several runs, and bytes beyond what the process had before that it needed at most."""

    seconds: float = float("inf")
    memory: int = 0
    runs: int = 0


def in_turns(alternatives: dict, rounds: int = 5, seconds: float = 1.5, clock=time.perf_counter) -> dict[str, Measured]:
    """{name: Measured} of {name: function}. Every round runs each once, so that a noisy neighbour slows all of them; who has used up
    its seconds is left out of further rounds. `clock`: `time.process_time` where one thread works and the machine is busy."""
    found = {name: Measured() for name in alternatives}
    used = dict.fromkeys(alternatives, 0.0)
    for number in range(1 + rounds):
        for name, run in alternatives.items():
            if used[name] >= seconds:
                continue
            time.sleep(SETTLE)
            before = resident()
            forget_peak()
            start = clock()
            run()
            taken = clock() - start
            if number == 0:
                found[name].memory = max(0, resident("VmHWM") - before)
                if taken < seconds:  # else it would take as long again
                    continue  # the first run makes code, buffers, pools of threads
            used[name] += taken
            found[name].runs += 1
            found[name].seconds = min(found[name].seconds, taken)
    return found


def resident(what: str = "VmRSS") -> int:
    """Bytes from /proc/self/status: VmRSS, VmHWM (the peak), RssAnon, RssFile; 0 where there is no such file."""
    try:
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(what + ":")), 0)


def forget_peak() -> None:
    """Let VmHWM begin anew."""
    try:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def table(head: list[str], rows: list[list]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def show(name: str, text: str, write: bool) -> None:
    """Print a benchmark's result, and put it between its markers in docs/performance.md where `write` says so."""
    print(text)
    if write:
        write_section(name, text.strip())
