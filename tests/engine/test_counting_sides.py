"""A side that counts its calls computes something else in any further run: no experiment may take that for its own doing."""

import types

import torch

from whydiff.causes import model
from whydiff.causes.finding import Finding
from whydiff.evidence.traces.trace import Event, Trace
from whydiff.places import Place

PLACE = Place("noise_pred_text", 0)


class Network(torch.nn.Module):
    """What it predicts is off at every second call; `rope` makes the table that is named: rotations, or one that is added."""

    def __init__(self, table):
        super().__init__()
        self.calls, self.rope, self.table = 0, torch.nn.Identity(), table

    def forward(self, x):
        self.calls += 1
        self.rope(self.table)
        return x + (self.calls % 2)


class Counting:
    """A lab whose candidate is that network and whose reference predicts x."""

    def __init__(self, table):
        self.network = Network(table)
        self.sides = {"reference": None, "candidate": types.SimpleNamespace(subject=types.SimpleNamespace(transformer=self.network))}
        self.traces = {"reference": recorded(torch.ones(4)), "candidate": recorded(self.network(torch.ones(4)))}

    def put_into(self, role, values):
        return lambda place, own: None

    def run(self, role, substitute):
        return recorded(self.network(torch.ones(4)))

    def closes(self, finding, target, after):
        return torch.equal(target, after)


def recorded(tensor):
    trace = Trace()
    trace.add(Event(PLACE, tensor))
    return trace


def explained(table, monkeypatch):
    lab = Counting(table)
    monkeypatch.setattr(model, "has_probes", lambda subject: True)
    monkeypatch.setattr(model, "denoisers", lambda subject: {"transformer": subject.transformer})
    values = [{PLACE: lab.traces[role][PLACE]} for role in ("reference", "candidate")]
    return model.explain_rope(Finding("noise_pred_text", [PLACE], *values, 1.0, 0.0), lab)


def test_a_table_that_is_added_is_no_rope_that_could_be_missing(monkeypatch):
    assert explained(torch.ones(3), monkeypatch) == []


def test_what_goes_away_without_the_experiment_is_not_explained_by_it(monkeypatch):
    rotations = (torch.ones(3), torch.zeros(3))
    lab = Counting(rotations)
    lab.network.forward = types.MethodType(lambda self, x: self.rope(self.table) and x, lab.network)  # right in every further run
    monkeypatch.setattr(model, "has_probes", lambda subject: True)
    monkeypatch.setattr(model, "denoisers", lambda subject: {"transformer": subject.transformer})
    values = [{PLACE: lab.traces[role][PLACE]} for role in ("reference", "candidate")]
    assert model.explain_rope(Finding("noise_pred_text", [PLACE], *values, 1.0, 0.0), lab) == []
