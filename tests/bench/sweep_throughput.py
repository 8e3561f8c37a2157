"""How many cases a minute come out of 1, 2, 4 and 8 workers: cases that sleep as one waits for a GPU, and real ones of the tiny FLUX.

    OMP_NUM_THREADS=1 python tests/bench/sweep_throughput.py [sleeping|real] [--picture docs/pictures/sweep_throughput.svg]

All workers are started and warm before anything is measured; rounds of few and of many workers take turns, as others use the machine, too.
"""  # fmt: skip

import argparse
import pathlib
import statistics
import sys
import tempfile
import time

from whydiff.sweep.cluster import workers
from whydiff.sweep.grid import plan
from whydiff.sweep.running import Crew, run_cases
from whydiff.sweep.task import Answer

ROOT = pathlib.Path(__file__).resolve().parents[2]
SECONDS = 2.0  # that a sleeping case takes; it loads nothing, so that what is measured is the sweep itself
CASES = f"base: {ROOT}/data/cases/flux_port.yaml\nset: {{call.num_inference_steps: 4}}\ngrid: {{call.seed: {{from: 0, to: 999}}}}"


def slept(planned, notebooks=False):
    """A case that waits as one waits for a GPU."""
    time.sleep(SECONDS)
    return Answer(planned.name, verdict={"verdict": "same"}, seconds=SECONDS)


class Few(Crew):
    """Some of the workers."""

    chosen: list[str] = []

    def idle(self):
        return [address for address in super().idle() if address in self.chosen]


class Asleep(Few):
    work = staticmethod(slept)


def measured(kind: str, counts: list[int], each: int, rounds: int) -> dict[int, float]:
    """{workers: cases a minute}, the median of rounds of `each` cases for each worker."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "sweep.yaml"
        path.write_text(CASES)
        cases = plan(path).cases
        found: dict[int, list[float]] = {count: [] for count in counts}
        with workers(None, max(counts), len(cases), {}) as (client, resources):
            everyone = sorted(client.sync(client.scheduler.identity, n_workers=-1)["workers"])

            def taken(count: int, number: int) -> float:
                crew = (Asleep if kind == "sleeping" else Few)(client, resources)
                crew.chosen = everyone[:count]
                start = time.monotonic()
                run_cases([cases.pop() for _ in range(number)], crew, lambda planned, answer: [])
                return time.monotonic() - start

            taken(max(counts), 2 * max(counts))
            for _ in range(rounds):
                for count in counts:
                    found[count].append(60 * each * count / taken(count, each * count))
                    print(f"{kind}, {count} workers: {found[count][-1]:.0f} cases a minute", file=sys.stderr, flush=True)
    return {count: statistics.median(values) for count, values in found.items()}


def picture(tables: dict[str, dict[int, float]], path: str) -> None:
    """Speed-up over the number of workers, against the diagonal."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
    most = max(count for table in tables.values() for count in table)
    axes.plot([1, most], [1, most], color="0.7", linestyle=":", label="as many times as workers")
    for (kind, table), style in zip(tables.items(), ("o-", "s--"), strict=False):
        axes.plot(list(table), [value / table[min(table)] for value in table.values()], style, label=f"{kind} cases")
    axes.set(xlabel="workers", ylabel="throughput, 1 worker = 1", xticks=range(1, most + 1))
    axes.legend(frameon=False)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kinds", nargs="*", default=["sleeping", "real"])
    parser.add_argument("--picture")
    options = parser.parse_args()
    tables = {}
    for kind in options.kinds:
        tables[kind] = measured(kind, *(([1, 2, 4, 8], 3, 1) if kind == "sleeping" else ([1, 2], 4, 2)))
        print(f"| {kind} cases, workers | {' | '.join(map(str, tables[kind]))} |")
        print(f"|---|{'---|' * len(tables[kind])}")
        print(f"| cases a minute | {' | '.join(f'{value:.0f}' for value in tables[kind].values())} |")
        base = tables[kind][1]
        print(f"| times one worker | {' | '.join(f'{value / base:.2f}' for value in tables[kind].values())} |\n", flush=True)
    if options.picture:
        picture(tables, options.picture)


if __name__ == "__main__":
    main()
