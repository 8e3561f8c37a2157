"""Two parts of one tensor in the wrong order: what they are is told from what is done with them."""

import torch
from inside_toys import lab, pair

from whydiff.causes.inside.explain import explain

IMAGE, TEXT = (torch.randn(2, n, 32, generator=torch.Generator().manual_seed(n)) for n in (9, 5))


class Cross(torch.nn.Module):
    """Attention to a text: keys and values are two parts of one layer's output."""

    def __init__(self):
        super().__init__()
        self.q, self.kv = torch.nn.Linear(32, 32), torch.nn.Linear(32, 64)

    def forward(self, image, text, order=(0, 1)):
        parts = self.kv(text).chunk(2, -1)
        scores = self.q(image) @ parts[order[0]].transpose(-2, -1)
        return torch.softmax(scores, -1) @ parts[order[1]]


def test_exchanged_keys_and_values_are_told_and_are_no_gate():
    def exchanged(m):
        m.forward = lambda image, text: Cross.forward(m, image, text, order=(1, 0))

    inside = pair(Cross(), exchanged, IMAGE, TEXT)
    assert explain([inside], None, lab())[0] == []
    assert "the first two parts are exchanged" in inside.found
