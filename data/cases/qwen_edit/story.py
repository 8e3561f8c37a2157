"""What the notebook on Qwen-Image looks at: each suspicion as an intervention, the ranking by evidence, the verdict."""

import dataclasses
import functools

import torch

from qwen_edit.pipeline import microservice
from whydiff.audits.result import AuditResult, Sentence, Table
from whydiff.errors import Trouble
from whydiff.evidence.sides.runnable import RunnableSide
from whydiff.measure.compare import compare
from whydiff.measure.published import Published
from whydiff.measure.published_families import Judged


@dataclasses.dataclass(frozen=True)
class Suspicion:
    """What may differ, how it is tried, and what the note guessed (its section; its probability, where it gave one)."""

    name: str
    section: str
    guess: float | None
    departs: dict
    workflow: dict = dataclasses.field(default_factory=dict)
    known: str = ""  # what the framework's source says, facts/qwen_image_comfyui.md


SUSPICIONS = (
    Suspicion("training mode", "1", 0.4, {"training_mode": True}, known="dropout 0, no running statistics"),
    Suspicion("metadata lost: {} for the dict", "2", 0.3, {"keep_metadata": False}, known="reference_latents never reach the model"),
    Suspicion("patches in another order", "3", 0.2, {"order": ("cfg_norm", "aura_flow", "lora")}, known="three slots, each node clones"),
    Suspicion("conditioning through a .pt file", "6", 0.1, {"through_file": True}, known="torch.save is exact"),
    Suspicion("conditioning in float16", "6", 0.1, {"conditioning_dtype": "float16"}, known="one rounding"),
    Suspicion("weights in bfloat16", "4", None, {"weights_dtype": "bfloat16"}, known="one rounding of each weight"),
    Suspicion("random numbers drawn before", "5", None, {"disturb_rng": True}, known="the sampler seeds again"),
    Suspicion("adapter on float8 weights: load route", "7", None, {"lora_route": "added_fp8"}, {"lora_route": "merged_fp8"},
              known="complete and partial load round differently"),
    Suspicion("another negative", "2", None, {"negative": "noise"}, known="never evaluated at cfg 1"),
    Suspicion("CFGNorm left out", "3", None, {"use_cfg_norm": False}, known="acts on guided predictions alone"),
    Suspicion("adapter's keys match nothing", "-", None, {"lora_prefix": "diffusion_model."}, known="a line in the log"),
    Suspicion("shift 1.73, the node's default", "-", None, {"shift": 1.73}, known="the template sets 3"),
    Suspicion("another seed", "-", None, {"seed_offset": 1}, known="another draw"),
    Suspicion("result saved in the sampler's space", "-", None, {"normalise_output": True}, known="KSampler returns the autoencoder's space"),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Tried:
    """What an intervention did to the latents, over several sets of random weights."""

    suspicion: Suspicion
    exact: bool  # equal bit for bit, for all of them
    difference: float  # relative L2, the largest
    correlation: float
    first_probe: str  # where a recording would show it first; "" where nothing differs

    @property
    def class_(self) -> str:
        return "exact no-op" if self.exact else "acts"


def try_all(cfg: float = 1.0, weights: int = 2, suspicions=SUSPICIONS) -> list[Tried]:
    """Each suspicion alone, on `weights` sets of random weights."""
    if weights < 1:
        raise Trouble(f"weights counts sets of random weights and is at least 1, got {weights}.")
    return [_try(s, cfg, weights) for s in suspicions]


def _try(suspicion: Suspicion, cfg: float, weights: int) -> Tried:
    found, first = [], ""
    for seed in range(weights):
        traces = [_run(seed, cfg, _frozen(options)) for options in (suspicion.workflow, {**suspicion.workflow, **suspicion.departs})]
        last = [next(e.tensor for place, e in trace.events.items() if place.probe == "vae_latents") for trace in traces]
        found.append(compare(*last))
        first = first or _first_difference(*traces)
    worst = max(found, key=lambda c: c.relative_l2 or 0.0)
    return Tried(suspicion, all(c.equal for c in found), worst.relative_l2, worst.correlation, first)


def _frozen(options: dict) -> tuple:
    return tuple(sorted(options.items()))


@functools.lru_cache(maxsize=8)  # most suspicions share the workflow's run
def _run(weights: int, cfg: float, options: tuple):
    side = microservice(weights, **dict(options))
    return RunnableSide(side, {"cfg": cfg, "seed": 12345}, role="reference" if not options else "candidate").run()


def _first_difference(reference, candidate) -> str:
    for place, event in reference.events.items():
        other = candidate.events.get(place)
        if other is None or event.tensor.shape != other.tensor.shape or not torch.equal(event.tensor, other.tensor):
            return place.probe
    return ""


def interventions(tried: list[Tried]) -> Table:
    rows = tuple((t.suspicion.section, t.suspicion.name, t.class_, t.difference, t.correlation, t.first_probe, t.suspicion.known) for t in tried)
    return Table(("section", "suspicion", "it", "relative L2", "correlation", "first probe that shows it", "by the source"), rows)


def ranking(tried: list[Tried]) -> Table:
    """The note's four guesses with probabilities beside what the interventions say, the guessed order kept."""
    rows = []
    guesses = {}
    for t in tried:
        if t.suspicion.guess is not None:
            guesses.setdefault(t.suspicion.guess, []).append(t)
    acting = sorted((t for t in tried if not t.exact), key=lambda t: -t.difference)
    for place, (guess, group) in enumerate(sorted(guesses.items(), reverse=True), 1):
        live = [t for t in group if not t.exact]
        best = max(live, key=lambda t: t.difference, default=None)
        stands = "cannot act" if best is None else f"acts: place {acting.index(best) + 1} of {len(acting)} by size here"
        rows.append((place, ", ".join(t.suspicion.name for t in group), f"{100 * guess:.0f} %", stands))
    return Table(("place in the note", "suspicion", "guessed", "by experiment"), tuple(rows))


def verdict(published: Published, families: list[Judged], tried: list[Tried]) -> AuditResult:
    """What may be said of the note's question from its four figures and from the experiments."""
    low, high = published.scale_free(correlations=[0.0])
    away = published.errors_away()
    findings = [
        Sentence(f"the mean fixes s sqrt(1 - rho) = {published.spread.value:.3f}, the ratios fix gamma = {low:.2f} to {high:.2f} "
                 f"(rho 0; at most {published.scale_free()[1]:.2f})"),
        Sentence("two independent unit normals are excluded" if away > 5 else "two independent unit normals are possible",
                 f"{published.mean_of()[0]:.4f} against {published.mean_abs.value:g}, {away:.0f} standard errors"),
    ]  # fmt: skip
    findings += [Sentence(f"{j.name}: {j.words}") for j in families if j.excluded]
    findings.append(Sentence(f"rho stays open: {published.correlation(1.0):.3f} if both spreads are 1, "
                             + ", ".join(f"rho {rho:.1f} with spreads 1 to {q:.1f}" for q, rho in _open(published))))  # fmt: skip
    findings.append(Sentence("exact no-ops: " + "; ".join(t.suspicion.name for t in tried if t.exact)))
    listed = [t for t in tried if not t.exact and t.suspicion.guess is not None]
    if listed:
        best = max(listed, key=lambda t: t.difference)
        findings.append(Sentence(f"of the suspicions that the note ranked the one left with a mechanism is: {best.suspicion.name} "
                                 f"({best.suspicion.known}); its size on the real model is unmeasured"))  # fmt: skip
        findings.append(Sentence(f"the probe to record next: {best.first_probe}"))
    findings.append(Sentence("missed by the note: " + "; ".join(t.suspicion.name for t in tried if t.suspicion.section == "-" and not t.exact)))
    return AuditResult("qwen_image_comfyui_vs_microservice", "Why do the two latents differ, and what do four figures say about it?",
                       "different", tuple(findings))  # fmt: skip


def _open(published: Published) -> list[tuple[float, float]]:
    """For rho 0, 0.3, 0.6: the ratio of spreads nearest to 1 that the ratios allow."""
    found = []
    for rho in (0.0, 0.3, 0.6):
        fitting = [q for q, _, _ in published.ratios_that_fit([0.8 + 0.05 * i for i in range(35)], [rho])]
        if fitting:
            found.append((min(fitting, key=lambda q: abs(q - 1)), rho))
    return found
