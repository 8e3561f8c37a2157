"""What a recording notes of its text encoders names causes that embeddings alone cannot tell."""

import contextlib

import torch
from recorded_lab import finding, lab_of, trace

from whydiff.causes.prompt import noted
from whydiff.evidence.recording import encoder_notes
from whydiff.evidence.traces.trace import Trace

IDS = torch.arange(12).reshape(1, 12)


class Block(torch.nn.Module):
    def __init__(self, eps):
        super().__init__()
        self.norm = torch.nn.LayerNorm(16, eps=eps)
        self.mix = torch.nn.Linear(16, 16)

    def forward(self, x, mask=None):
        seen = x if mask is None else x * mask[..., None]
        return x + self.mix(self.norm(x)) + seen.mean(1, keepdim=True)


class Encoder(torch.nn.Module):
    """Three blocks; `states` are what is before them, between them, and the final norm's output."""

    def __init__(self, eps=1e-5, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.embed = torch.nn.Embedding(20, 16)
        self.blocks = torch.nn.ModuleList(Block(eps) for _ in range(3))
        self.final = torch.nn.LayerNorm(16, eps=eps)
        torch.manual_seed(5)
        torch.nn.init.normal_(self.embed.weight, std=0.1)  # small, so that an epsilon matters

    def forward(self, input_ids, attention_mask=None):
        states = [self.embed(input_ids)]
        for block in self.blocks:
            states.append(block(states[-1], attention_mask))
        return [*states, self.final(states[-1])]


def recorded(encoder, made, mask=None):
    """A trace of `prompt_embeds` = made(states), with the notes of the encoder's call."""
    notes = Trace()
    with contextlib.ExitStack() as stack, torch.no_grad():
        encoder_notes.install(encoder, "text_encoder", notes, stack)
        embeds = made(encoder(IDS, attention_mask=mask))
    return trace({"input_ids": IDS, "prompt_embeds": embeds}, producer={"encoders": notes.encoders})


def named(mine, theirs):
    lab = lab_of(mine, theirs)
    return noted.explain(finding(lab, "prompt_embeds"), lab)


def test_embeddings_are_found_among_the_noted_layers_with_and_without_the_final_norm():
    encoder = Encoder()
    (told,) = named(recorded(encoder, lambda s: s[-1]), recorded(encoder, lambda s: s[2]))
    assert told.id == "clip-skip" and told.relation["reference"] == [3] and told.relation["candidate"] == [2]
    (told,) = named(recorded(encoder, lambda s: encoder.final(s[1])), recorded(encoder, lambda s: encoder.final(s[3])))
    assert told.relation["normed"] == {"reference": [True], "candidate": [True]}


def test_a_list_of_layers_that_counts_from_another_base_is_told_from_another_list():
    encoder = Encoder()
    side = recorded(encoder, lambda s: torch.cat([s[0], s[1]], -1)[:, 3:])  # a template's three rows cut off
    (told,) = named(side, recorded(encoder, lambda s: torch.cat([s[1], s[2]], -1)[:, 3:]))
    assert told.id == "hidden-state-index-base"
    (told,) = named(side, recorded(encoder, lambda s: torch.cat([s[0], s[3]], -1)[:, 3:]))
    assert told.id == "wrong-layer-list"


def test_an_epsilon_is_named_where_it_explains_the_first_norm():
    (told,) = named(recorded(Encoder(1e-5), lambda s: s[-1]), recorded(Encoder(1e-3), lambda s: s[-1]))
    assert told.id == "text-encoder-norm-eps" and told.relation["candidate"] == 1e-3
    scaled = Encoder(1e-3)
    torch.nn.init.constant_(scaled.blocks[0].norm.weight, 1.5)  # another norm altogether: the epsilons are not all of it
    assert named(recorded(Encoder(1e-5), lambda s: s[-1]), recorded(scaled, lambda s: s[-1])) == []


def test_a_mask_that_one_encoder_was_given_is_named_and_other_weights_are_not():
    mask = (IDS < 9).long()
    (told,) = named(recorded(Encoder(), lambda s: s[-1]), recorded(Encoder(), lambda s: s[-1], mask))
    assert told.id == "encoder-mask-passed-or-not" and told.relation["candidate"] is True
    assert named(recorded(Encoder(), lambda s: s[-1]), recorded(Encoder(seed=1), lambda s: s[-1])) == []


def test_modules_that_one_side_keeps_in_float32_are_named():
    lost, kept = Encoder().half(), Encoder().half()
    for block, whole in zip(kept.blocks, Encoder().blocks):
        block.mix = whole.mix
        block.forward = lambda x, mask=None, b=block: x + b.mix(b.norm(x).float()).to(x.dtype) + x.mean(1, keepdim=True)
    (told,) = named(recorded(kept, lambda s: s[-1]), recorded(lost, lambda s: s[-1]))
    assert (told.id, told.departs, told.relation["names"]) == ("fp32-exempt-modules-lost", "candidate", ["mix"])
