"""Do both sides hold the same weights, in the same state: values, dtype, training mode, adapters?"""

from __future__ import annotations

import collections

import torch

from whydiff.audits.judge import causes_in, lies_in, rows_in, sentences
from whydiff.audits.result import AuditResult, Sentence
from whydiff.audits.weights import Pairing, pair_weights

NAME = "model_state"
QUESTION = "Do both sides hold the same weights, in the same state?"

concerns = lies_in(ids=("undeclared-dtype", "text-encoder-precision"))
forward = lies_in(stages=("model_forward",))


def audit(study) -> AuditResult:
    """Component by component: weights paired by name or by content, dtype, training mode, adapters."""
    modules = {role: components(side) for role, side in study.lab.sides.items()}
    shared = [name for name in modules["reference"] if name in modules["candidate"]]
    pairings = {name: paired(modules["reference"][name], modules["candidate"][name]) for name in shared}
    states = {role: {name: state(module) for name, module in found.items()} for role, found in modules.items()}
    findings = [*_causes(study), *_weights(pairings), *_state(states, shared), *_one_sided(modules)]
    rows = tuple(_row(name, pairings[name], states) for name in shared)
    return AuditResult(
        NAME,
        QUESTION,
        _word(study, pairings, states),
        tuple(findings),
        (
            "component",
            "same name and values",
            "renamed",
            "rows fused or split",
            "reordered",
            "values differ",
            "only reference",
            "only candidate",
            "dtype",
            "training mode",
            "adapters",
        ),
        rows,
        {"pairings": pairings, "states": states},
    )


def components(side) -> dict[str, torch.nn.Module]:
    return {} if side is None else {k: v for k, v in side.components.items() if isinstance(v, torch.nn.Module)}


def paired(reference: torch.nn.Module, candidate: torch.nn.Module) -> Pairing:
    """Weights of two modules paired; across a cast both are read in the coarser of the two dtypes."""
    return pair_weights(reference, candidate)


def state(module: torch.nn.Module) -> dict:
    """What else decides a forward pass: dtypes, training mode, adapters, hooks."""
    dtypes = collections.Counter(str(p.dtype).removeprefix("torch.") for p in module.parameters())
    training = [name or "the whole" for name, inner in module.named_modules() if inner.training and _mode_matters(inner)]
    adapters = [
        name for name, inner in module.named_modules() if any(hasattr(inner, a) for a in ("lora_A", "lora_layer", "lora_down"))
    ]
    return {
        "dtype": ", ".join(dtypes),
        "training": training,
        "adapters": adapters + list(getattr(module, "peft_config", {}) or {}),
    }


def _mode_matters(module) -> bool:
    """Dropout of probability 0 and layers without a mode compute the same in training and in evaluation."""
    if isinstance(module, (torch.nn.modules.batchnorm._BatchNorm, torch.nn.modules.instancenorm._InstanceNorm)):
        return True
    return isinstance(module, torch.nn.modules.dropout._DropoutNd) and module.p > 0


def _word(study, pairings, states) -> str:
    word = study.verdict.verdict
    if word in ("vacuous", "incomparable"):
        return word
    if causes_in(study, concerns) or _state_differs(states, pairings) or any(one_side_alone(pairing) for pairing in pairings.values()):
        return "different"
    if not pairings:
        return "incomparable"
    if all(p.complete for p in pairings.values()):
        return "same"
    # What could not be paired by content is judged by what it does: the networks' outputs on equal inputs.
    added = [row for row in rows_in(study.added, forward) if row.place.probe.startswith("noise_pred")]
    return "incomparable" if not added else "different" if any(row.stands_out for row in added) else "within_noise"


def one_side_alone(pairing) -> bool:
    """Every weight of one side is found, and the other has more: no pairing of values could account for those."""
    return bool(pairing.only_reference) != bool(pairing.only_candidate)


def _state_differs(states, pairings) -> bool:
    return any(states["reference"][n][key] != states["candidate"][n][key] for n in pairings for key in ("adapters",)) or any(
        bool(states["reference"][n]["training"]) != bool(states["candidate"][n]["training"]) for n in pairings
    )


def _causes(study):
    if causes_in(study, concerns) or study.verdict.verdict == "vacuous":
        yield from sentences(study, concerns)


def _weights(pairings):
    for name, pairing in pairings.items():
        if pairing.complete:
            how = [
                words
                for words, some in (
                    ("renamed", pairing.renamed),
                    ("fused or split by rows", pairing.fused),
                    ("stored in another order", pairing.reordered),
                )
                if some
            ]
            suffix = f" ({', '.join(how)})" if how else ""
            yield Sentence(f"{name}: every weight of each side is found on the other with the same values{suffix}")
        if pairing.changed:
            yield Sentence(f"{name}: {_count(pairing.changed)} of one name with different values, first {pairing.changed[0]}")
        if pairing.only_reference or pairing.only_candidate:
            yield Sentence(f"{name}: {nowhere(pairing)}")
        if pairing.made:
            yield Sentence(
                f"{name}: {', '.join(pairing.made[:3])} exists on one side only; code makes it, no checkpoint holds it"
            )


def nowhere(pairing) -> str:
    """Weights of one side alone are a finding; where both sides have some, they may be each other's under other values."""
    mine, theirs = pairing.only_reference, pairing.only_candidate
    if mine and theirs:
        return (f"no counterpart was found for {_count(mine)} of the reference and {_count(theirs)} of the candidate, and nothing is "
                "claimed about them")  # fmt: skip
    names, owner, other = (mine, "reference", "candidate") if mine else (theirs, "candidate", "reference")
    return f"{_count(names)} of the {owner} {'is' if len(names) == 1 else 'are'} nowhere in the {other}, first {names[0]}"


def _count(names) -> str:
    return f"{len(names)} weight{'' if len(names) == 1 else 's'}"


def _state(states, shared):
    for name in shared:
        mine, theirs = states["reference"][name], states["candidate"][name]
        if mine["dtype"] != theirs["dtype"]:
            yield Sentence(f"{name} is {mine['dtype']} in the reference and {theirs['dtype']} in the candidate")
        for role, own in (("reference", mine), ("candidate", theirs)):
            if own["training"]:
                yield Sentence(f"the {role}'s {name} is in training mode where that matters, first in {own['training'][0]}")
            if own["adapters"]:
                yield Sentence(f"the {role}'s {name} carries adapters: {', '.join(map(str, own['adapters'][:3]))}")
    quiet = shared and not any(states[r][n][key] for r in states for n in shared for key in ("training", "adapters"))
    if quiet:
        yield Sentence("no component is in training mode where that would matter, and none carries adapters")


def _one_sided(modules):
    if not modules["reference"] or not modules["candidate"]:
        missing = [role for role, found in modules.items() if not found]
        yield Sentence(
            f"the weights of {' and '.join(missing)} cannot be read: give {'them' if len(missing) > 1 else 'it'} as live, "
            "with components"
        )
        return
    for role, other in (("reference", "candidate"), ("candidate", "reference")):
        alone = [name for name in modules[role] if name not in modules[other]]
        if alone:
            yield Sentence(f"only the {role} has {', '.join(alone)}")


def _row(name, pairing: Pairing, states):
    mine, theirs = states["reference"][name], states["candidate"][name]
    dtype = mine["dtype"] if mine["dtype"] == theirs["dtype"] else f"{mine['dtype']} / {theirs['dtype']}"
    return (
        name,
        len(pairing.same_name),
        len(pairing.renamed),
        len(pairing.fused),
        len(pairing.reordered),
        len(pairing.changed),
        len(pairing.only_reference),
        len(pairing.only_candidate),
        dtype,
        bool(mine["training"] or theirs["training"]),
        bool(mine["adapters"] or theirs["adapters"]),
    )
