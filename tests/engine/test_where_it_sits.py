"""An unexplained difference is shown where in its tensor it sits: of a whole pipeline, down to the head of an attention."""

import torch

import whydiff

CALL = {"prompt": "a red circle", "height": 48, "width": 64, "num_inference_steps": 2, "max_sequence_length": 16, "seed": 0}


class OneHeadBent(torch.nn.Module):
    """A norm of queries (B, L, H, D) that bends those of one head."""

    def __init__(self, norm, head):
        super().__init__()
        self.norm, self.head = norm, head

    def forward(self, x):
        bent = self.norm(x).clone()
        bent[:, :, self.head] = 1.3 * torch.tanh(bent[:, :, self.head])
        return bent


def test_a_head_of_its_own_is_told(sides):
    candidate = sides.reference()
    attention = candidate.transformer.transformer_blocks[1].attn
    attention.norm_q = OneHeadBent(attention.norm_q, 1)
    verdict = whydiff.diagnose(reference=sides.reference(), candidate=candidate, call=CALL).to_dict()
    (entry,) = verdict["unexplained"]
    assert entry["module"] == "transformer/transformer_blocks.1.attn.norm_q"
    assert entry["why"] == "100 % of the squared error in head 1"
    heads = next(axis for axis in entry["profile"] if axis["axis"] == "head")
    assert heads["shares"] == [0.0, 1.0, 0.0, 0.0]
