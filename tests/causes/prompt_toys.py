"""A pipeline that does nothing but encode its prompt, with a real CLIP of random weights, and a lab for tensors alone."""

import pathlib

import torch

from whydiff import study, tap
from whydiff.causes.finding import Finding
from whydiff.evidence.case import make_case
from whydiff.evidence.floor import Floor
from whydiff.evidence.traces.trace import Event, Trace
from whydiff.measure.compare import relative_l2
from whydiff.places import Place

MODEL = pathlib.Path(__file__).parents[2] / "data" / "models" / "tiny-flux"
PROMPT = "a red circle, on black!"


def clip(blocks=6, width=32):
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=182, hidden_size=width, intermediate_size=48, num_hidden_layers=blocks, num_attention_heads=4, max_position_embeddings=16,
        bos_token_id=180, eos_token_id=181, pad_token_id=181)).eval()  # fmt: skip


def t5(kind="T5"):
    """A T5 (one table of relative positions) or UMT5 (one in each block) of random weights, large enough to tell blocks apart."""
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=182, d_model=32, d_kv=8, d_ff=48, num_layers=3, num_heads=4, feed_forward_proj="gated-gelu", is_encoder_decoder=False)
    model = getattr(transformers, f"{kind}EncoderModel")(config).eval()
    for name, parameter in model.named_parameters():
        if "relative_attention_bias" in name:
            torch.nn.init.normal_(parameter)
    return model


class Encoding:
    """Prompt in, embeddings out. `text` changes the prompt, `change` what became of it; `layers` are hidden states to join."""

    def __init__(self, text=lambda t: t, layers=(-2,), change=lambda embeds: embeds, normed=False, encoder=None):
        from transformers import CLIPTokenizer

        self.tokenizer = CLIPTokenizer.from_pretrained(MODEL / "tokenizer")
        self.components = {"text_encoder": encoder or clip()}
        self.text, self.layers, self.change, self.normed = text, layers, change, normed

    def __call__(self, prompt="", seed=0):
        encoder = self.components["text_encoder"]
        ids = self.tokenizer([self.text(prompt)], padding="max_length", max_length=16, truncation=True, return_tensors="pt").input_ids
        out = encoder(tap("input_ids", ids), output_hidden_states=True)
        states = [out.hidden_states[i] for i in self.layers]
        states = [encoder.final_layer_norm(s) for s in states] if self.normed else states
        embeds = tap("prompt_embeds", self.change(torch.cat(states, -1)).float())
        return tap("image", embeds.nan_to_num()[:, :8, :3].sigmoid()[:, None])


class Port(Encoding):
    """The same by other code, so that agreement is not empty."""


def verdict(reference, candidate, prompt=PROMPT):
    call = {"prompt": prompt, "seed": 0}
    return study(make_case({role: {"live": {"entry": "toy.py:toy", "call": call, "object": side}}
                            for role, side in (("reference", reference), ("candidate", candidate))})).verdict  # fmt: skip


class Tensors:
    """The part of a Lab that recorded tensors have: no side can be run."""

    patient, changes = None, {}
    floor = Floor({}, {}, "derived")

    def __init__(self, reference: dict, candidate: dict):
        self.sides = {"reference": None, "candidate": None}
        self.notes, self.unrepaired = [], []
        self.traces = {"reference": _trace(reference), "candidate": _trace(candidate)}
        self.case = make_case({"reference": {"settings": {"prompt": "a"}}, "candidate": {"settings": {"prompt": "a"}}})

    def own_value(self, role, place):
        event = self.traces[role].events.get(place)
        return None if event is None else event.tensor

    def closes(self, finding, target, after):
        return relative_l2(target, after) <= 1e-6

    def stands_out(self, place, reference, candidate):
        return not relative_l2(reference, candidate) <= 1e-6

    def finding(self, probe, step=None, branches=(None,)):
        places = [Place(probe, step, branch) for branch in branches]
        reference = {p: self.traces["reference"][p] for p in places}
        candidate = {p: self.traces["candidate"][p] for p in places if self.traces["candidate"][p].shape == reference[p].shape}
        return Finding(probe, places, reference, candidate, None, torch.finfo(torch.float32).eps)


def _trace(tensors: dict) -> Trace:
    trace = Trace()
    for key, tensor in tensors.items():
        trace.add(Event(key if isinstance(key, Place) else Place(key), tensor))
    return trace
