"""What is said of a difference that no experiment explains."""

from recorded_lab import finding, lab_of, normal, trace

from whydiff.causes.concentration import concentration
from whydiff.causes.describe import describe_relation


def described(mine, theirs, probe="latents"):
    lab = lab_of(trace({probe: mine}), trace({probe: theirs}))
    found = finding(lab, probe)
    return describe_relation(found, concentration(found, None)[1])


def test_relations_places_and_unrelated_values():
    x = normal(1, 16, 8)
    y = x.clone()
    y[:, 12:] += normal(1, 4, 8, seed=3)
    assert "1.02" in described(x, 1.02 * x)
    assert "tokens 12 to 15" in described(x, y)
    assert "unrelated" in described(normal(1, 64, 8), normal(1, 64, 8, seed=9))
    assert described(x, (3 * x).tanh() + 0.3 * x.roll(1, 1)) == ""
