"""Do both sides read the same prompt, and make the same embeddings of every token?"""

from __future__ import annotations

import contextlib

import torch

from whydiff.audits.judge import judged, lies_in, sentences, tensors
from whydiff.audits.result import AuditResult, Sentence
from whydiff.audits.unspecified import left_to_defaults
from whydiff.evidence.recording.diffusers_probes import text_encoders
from whydiff.measure.compare import relative_l2
from whydiff.places import Place, family

NAME = "prompt_embedding_stats"
QUESTION = "Do both sides encode the same tokens, and make the same embeddings of each?"
EMBEDS = ("prompt_embeds", "pooled_prompt_embeds", "negative_prompt_embeds", "negative_pooled_prompt_embeds", "image_embeds")

concerns = lies_in(stages=("prompt_encoding",))


def audit(study) -> AuditResult:
    """Ids, masks and padding; statistics of each embedding; which hidden layer it is; what was cut off."""
    places = _places(study)
    findings = [*sentences(study, concerns), *_tokens(study), *_masks(study), *_layers(study), *left_to_defaults(study, "prompt")]
    rows = [row for place in places for row in _statistics(study, place)]
    return AuditResult(
        NAME,
        QUESTION,
        judged(study, concerns),
        tuple(findings),
        ("tensor", "side", "shape", "mean", "standard deviation", "norm", "difference"),
        tuple(rows),
        {"tokens": differences(study), "labels": labels(study), "marks": marks(study)},
    )


def _places(study) -> list[Place]:
    return [row.place for row in study.rows if row.place.stage == "prompt_encoding" and not row.place.probe.startswith("modules")]


def differences(study) -> dict[str, list[float]]:
    """{probe: the difference of each token} of every embedding that both sides have in one shape."""
    pairs = {place.probe: tensors(study, place) for place in _places(study) if family(place.probe) in EMBEDS}
    return {probe: token_differences(*pair) for probe, pair in pairs.items() if pair is not None}


def token_differences(reference: torch.Tensor, candidate: torch.Tensor) -> list[float]:
    """‖reference − candidate‖ / ‖reference‖ of each token: (B, L, D) -> L numbers, batch and features summed."""
    if reference.dim() < 3:
        return [relative_l2(reference, candidate)]
    a, b = (t.double().movedim(1, 0).flatten(1) for t in (reference, candidate))
    norm = a.norm(dim=1)
    distance = (a - b).norm(dim=1)
    return [(d / n).item() if n else float(d > 0) for d, n in zip(distance, norm, strict=True)]


def _statistics(study, place: Place):
    pair = tensors(study, place)
    for role, trace in study.lab.traces.items():
        value = trace[place].double()
        difference = relative_l2(*pair) if pair is not None and role == "candidate" else None
        yield (
            str(place),
            role,
            tuple(value.shape),
            value.mean().item(),
            value.std().item() if value.numel() > 1 else 0.0,
            value.norm().item(),
            difference,
        )


def _tokenizers(study) -> dict[str, object]:
    """{probe suffix: tokenizer} of the first live side that has one which can be called on a text."""
    found: dict[str, object] = {}
    for side in study.lab.sides.values():
        for name, component in (side.components if side is not None else {}).items():
            if name.startswith("tokenizer") and hasattr(component, "convert_ids_to_tokens"):
                found.setdefault(name.removeprefix("tokenizer"), component)
    return found


def prompt_of(study, role: str) -> str | None:
    side = getattr(study.case, role)
    prompt = (side.live.call if side.live else {}).get("prompt", side.settings.get("prompt"))
    return prompt[0] if isinstance(prompt, list) and prompt else prompt if isinstance(prompt, str) else None


def ids_probes(study) -> list[Place]:
    return [row.place for row in study.rows if family(row.place.probe) == "input_ids" and not row.place.occurrence]


def _tokens(study):
    """How many tokens the prompt has, how many are padding, and whether the prompt was cut."""
    tokenizers = _tokenizers(study)
    for place in ids_probes(study):
        tokenizer = tokenizers.get(place.probe.removeprefix("input_ids"))
        for role, trace in study.lab.traces.items():
            ids, prompt = trace[place], prompt_of(study, role)
            if tokenizer is None or prompt is None or ids.dim() != 2:
                continue
            wanted = len(tokenizer(prompt, truncation=False)["input_ids"])
            row, name = ids.shape[1], place.probe
            if wanted > row:
                yield Sentence(f"the {role}'s {name} has room for {row} of the prompt's {wanted} tokens: the rest was cut off")
            elif role == "reference":
                figures = f"{wanted} tokens in a row of {row}, the others are padding"
                yield Sentence(f"nothing of the prompt was cut off in {name}", figures)


def _masks(study):
    """Whether an attention mask reached the encoders, as far as either side shows one."""
    hidden = {
        role: {p: int((trace[p] == 0).sum()) for p in trace or () if family(p.probe) == "attention_mask"}
        for role, trace in study.lab.traces.items()
    }
    if hidden["reference"] == hidden["candidate"]:
        hidden = {"side": hidden["reference"]}
    for role, masks in hidden.items():
        for place, count in masks.items():
            which = "each side's" if role == "side" else f"the {role}'s"
            yield Sentence(f"{which} text encoder receives {place}, which hides {count} tokens")


def _layers(study):
    """Which hidden layer of a live side's own encoder each embedding is, for encoders that can return all of them."""
    for role, side in study.lab.sides.items():
        trace = study.lab.traces[role]
        if side is None or trace is None:
            continue
        for name, encoder in text_encoders(side.subject).items() if side.components else ():
            ids = trace.get("input_ids" + name.removeprefix("text_encoder"))
            if ids is None or not hasattr(encoder, "config"):
                continue
            layers = hidden_layers(encoder, ids, trace.get("attention_mask" + name.removeprefix("text_encoder")))
            for probe in ("prompt_embeds", "pooled_prompt_embeds"):
                which = layer_of(layers, trace.get(probe))
                if which is not None:
                    yield Sentence(f"the {role}'s {probe} is {which} of {name}")


def hidden_layers(encoder, ids, mask=None) -> dict[str, torch.Tensor]:
    """Every hidden state of a transformers encoder by a name in words; nothing if it cannot return them."""
    with torch.no_grad(), contextlib.suppress(Exception):
        device = next(encoder.parameters()).device
        given = {} if mask is None else {"attention_mask": mask.to(device)}
        output = encoder(ids.to(device), output_hidden_states=True, return_dict=True, **given)
        states = output.hidden_states
        found = {f"hidden layer {i} of {len(states) - 1}": state for i, state in enumerate(states)}
        found["the last hidden state"] = output.last_hidden_state
        if getattr(output, "pooler_output", None) is not None:
            found["the pooled output"] = output.pooler_output
        return found
    return {}


def layer_of(layers: dict[str, torch.Tensor], embeds) -> str | None:
    """The layer whose values an embedding has, up to rounding; the last of several equal ones."""
    found = None
    for name, state in layers.items():
        state = state.cpu()
        if embeds is not None and state.shape == embeds.shape and relative_l2(embeds, state) < 8 * torch.finfo(embeds.dtype).eps:
            found = name
    return found


def labels(study) -> dict[str, list[str]]:
    """{probe suffix: the tokens of the reference's ids as text}, for the axis of a picture."""
    found = {}
    for place in ids_probes(study):
        tokenizer = _tokenizers(study).get(place.probe.removeprefix("input_ids"))
        ids = study.reference[place]
        if tokenizer is not None and ids.dim() == 2:
            found[place.probe] = [str(token) for token in tokenizer.convert_ids_to_tokens(ids[0].tolist())]
    return found


def marks(study) -> dict[str, dict[str, list[bool]]]:
    """{probe of the ids: {"padding": of each token, "hidden on the ...": of each token}}; a mask as far as a side shows one."""
    found = {}
    for place in ids_probes(study):
        suffix, ids = place.probe.removeprefix("input_ids"), study.reference[place]
        if ids.dim() != 2:
            continue
        tokenizer = _tokenizers(study).get(suffix)
        rows = {"padding": padding(ids[0].tolist(), *(getattr(tokenizer, f"{name}_token_id", None) for name in ("pad", "eos")))}
        for role, trace in study.lab.traces.items():
            mask = None if trace is None else trace.get("attention_mask" + suffix)
            if mask is not None and mask.shape == ids.shape:
                rows[f"hidden, {role}"] = [not value for value in mask[0].tolist()]
        found[place.probe] = rows
    return found


def padding(ids: list[int], pad: int | None, end: int | None = None) -> list[bool]:
    """Which ids only fill the row: those equal to `pad` at its end, but for the first where `pad` also ends the text (CLIP)."""
    if pad is None or not ids or ids[-1] != pad:
        return [False] * len(ids)
    start = max((i + 1 for i, token in enumerate(ids) if token != pad), default=0) + int(pad == end)
    return [i >= start for i in range(len(ids))]
