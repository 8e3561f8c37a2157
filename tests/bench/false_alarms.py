"""How often does the noise floor raise a false alarm? Healthy implementations, many requests, every place.

    python tests/bench/false_alarms.py --requests 40

For each request diffusers is compared with the native port, or with itself in another memory format; all are healthy, so
whatever stands out is a false alarm. Prints the
largest ratio of difference to floor per stage, and for several factors the share of places and of requests that exceed it.
"""

import argparse
import collections
import pathlib
import random

from whydiff import study
from whydiff.evidence.case import make_case

CASES = pathlib.Path(__file__).parents[2] / "data" / "cases"
HEALTHY = ({"entry": "sides.py:port"}, {"entry": "sides.py:reference", "build": {"channels_last": True}})
FACTORS = (1, 2, 4, 8, 12, 16)


def request(rng: random.Random) -> dict:
    shape = rng.choice(["circle", "square", "triangle"])
    colour = rng.choice(["red", "green", "blue", "yellow"])
    words = rng.choice([f"a {colour} {shape}", f"two {colour} {shape}s"]) + rng.choice(["", " on black"])
    height, width = rng.choice([(48, 64), (64, 48), (48, 48), (64, 96)])
    return {"prompt": words, "height": height, "width": width, "num_inference_steps": rng.choice([1, 4, 8, 12, 20]),
            "guidance_scale": rng.choice([1.0, 2.0, 3.5, 5.0]), "max_sequence_length": rng.choice([16, 16, 32]),
            "seed": rng.randrange(10**6), "output_type": rng.choice(["pil", "np"])}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    worst: dict[str, float] = collections.defaultdict(float)
    places, exceeded, alarmed = 0, collections.Counter(), collections.Counter()
    verdicts = collections.Counter()
    for number in range(options.requests):
        call = request(rng)
        healthy = rng.choice(HEALTHY)
        candidate = {k: v for k, v in call.items() if k != "output_type" or healthy["entry"] != "sides.py:port"}
        case = make_case({"reference": {"live": {"entry": "sides.py:reference", "call": call}},
                          "candidate": {"live": healthy | {"call": candidate}}})  # fmt: skip
        case.path = str(CASES / "false_alarms.yaml")
        result = study(case)
        verdicts[result.verdict.verdict] += 1
        highest = 0.0
        for row in [*result.rows, *result.added]:
            if row.difference is None:
                continue
            ratio = row.difference / row.floor if row.floor else float(row.difference > 0) * 1e9
            worst[row.place.probe] = max(worst[row.place.probe], ratio)
            highest = max(highest, ratio)
            places += 1
            exceeded.update(f for f in FACTORS if ratio > f)
        alarmed.update(f for f in FACTORS if highest > f)
        print(f"{number + 1} of {options.requests}: {result.verdict.verdict}, largest ratio {highest:.2f}", flush=True)
    print(f"\nverdicts: {dict(verdicts)}; {places} places compared")
    for factor in FACTORS:
        print(f"factor {factor:3}: {exceeded[factor]} places ({exceeded[factor] / places:.2%}), {alarmed[factor]} requests")
    for probe, ratio in sorted(worst.items(), key=lambda item: -item[1])[:8]:
        print(f"largest ratio at {probe}: {ratio:.2f}")


if __name__ == "__main__":
    main()
