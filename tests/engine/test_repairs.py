"""Loops that are not in step, and embeddings of another length: what comes after them is compared all the same."""

import torch

import whydiff
from whydiff.causes.finding import CALLS, Finding
from whydiff.engine.repairs import counted, renamed
from whydiff.engine.walk import inherits
from whydiff.evidence.recording.recorder import Recorder
from whydiff.evidence.traces.trace import Event, Trace
from whydiff.places import Place


def test_recorder_neither_records_nor_counts_the_steps_that_the_other_loop_leaves_out():
    recorder = Recorder(substitute=lambda place, own: torch.full_like(own, 9.0))
    recorder.unmatched = frozenset({0})
    seen = [recorder.observe("latents", torch.tensor([float(k)]), step=k).item() for k in range(3)]
    assert seen == [0.0, 9.0, 9.0]
    assert {p.step: t.tensor.item() for p, t in recorder.trace.events.items()} == {0: 1.0, 1: 2.0}


def test_trace_is_renumbered_without_the_steps_left_out():
    trace = Trace()
    for k in range(4):
        trace.add(Event(Place("latents", k), torch.tensor([float(k)])))
    trace.add(Event(Place("prompt_embeds"), torch.zeros(1)))
    trace.absent = {Place("model_input/guidance", 1), Place("model_input/guidance", 2)}
    made = renamed(trace, lambda place: counted(place, frozenset({1})))
    assert [made.get("latents", k).item() for k in range(3)] == [0.0, 2.0, 3.0] and Place("latents", 3) not in made
    assert Place("prompt_embeds") in made and made.absent == {Place("model_input/guidance", 1)}


def test_values_of_another_shape_are_put_only_where_that_is_asked_for():
    recorder = Recorder(substitute=lambda place, own: torch.ones(1, 5))
    assert recorder.observe("prompt_embeds", torch.zeros(1, 3)).shape == (1, 3) and not recorder.trace.moved
    recorder.resized = frozenset({"prompt_embeds"})
    assert recorder.observe("prompt_embeds", torch.zeros(1, 3)).shape == (1, 5)
    assert recorder.trace.moved


def loop(first: int, slope: float):
    """A sampler of four levels that begins at entry `first`, with a network that scales by `slope`."""

    def pipe(seed=0):
        x = whydiff.tap("initial_latents", torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(seed)))
        levels = whydiff.tap("timesteps", torch.tensor([900.0, 600.0, 300.0, 100.0]))
        for k, t in enumerate(levels[first:]):
            received = whydiff.tap("latent_model_input", x, step=k)
            t = whydiff.tap("model_input/timestep", t[None], step=k)
            made = whydiff.tap("noise_pred_text", torch.tanh(received * slope + t / 1000), step=k)
            x = whydiff.tap("latents", x - 0.1 * whydiff.tap("noise_pred", made, step=k), step=k)
        return whydiff.tap("image", torch.sigmoid(x.movedim(1, -1)[..., :3]))

    return pipe


def test_network_is_compared_step_by_step_where_one_loop_leaves_out_its_first_step():
    for one, other in ((loop(0, 1.0), loop(1, 1.5)), (loop(1, 1.5), loop(0, 1.0))):
        verdict = whydiff.diagnose(reference=one, candidate=other, call={"seed": 0}).to_dict()
        assert [cause["id"] for cause in verdict["causes"]] == ["loop-count-off-by-one"]
        assert [(entry["probe"], entry["step"]) for entry in verdict["unexplained"]] == [("noise_pred_text", 0)]


def test_nothing_else_is_reported_where_only_the_first_step_is_left_out():
    verdict = whydiff.diagnose(reference=loop(0, 1.0), candidate=loop(1, 1.0), call={"seed": 0}).to_dict()
    assert [cause["id"] for cause in verdict["causes"]] == ["loop-count-off-by-one"] and not verdict["unexplained"]


def test_the_conditional_branch_bears_no_name_beside_a_side_that_has_no_branches():
    recorder = Recorder()
    recorder.guided_alone = True
    for branch in ("cond", "uncond"):
        recorder.observe("noise_pred_text" if branch == "cond" else "noise_pred_uncond", torch.zeros(1), step=0, branch=branch)
    assert list(recorder.trace.events) == [Place("noise_pred_text", 0), Place("noise_pred_uncond", 0, "uncond")]


def test_another_number_of_evaluations_does_not_follow_from_other_sigmas():
    place = Place("timesteps")
    counts = Finding("timesteps", [place], {place: torch.ones(2)}, {place: torch.ones(2)}, None, 0.0, kind=CALLS)
    assert inherits(counts, None, {"sigmas"}) == ""


class Net(torch.nn.Module):
    """Two layers side by side. `swapped`: the first one's weights are exchanged; `stale`: the second keeps its first output."""

    def __init__(self, swapped=False, stale=False, turned=False):
        super().__init__()
        torch.manual_seed(0)
        self.norm_out, self.to_k = torch.nn.Linear(4, 8), torch.nn.Linear(4, 8)
        self.kept, self.sign = None, -1 if turned else 1
        if swapped:
            with torch.no_grad():
                for parameter in self.norm_out.parameters():
                    parameter.copy_(torch.cat(parameter.chunk(2)[::-1]))
        if stale:
            made = self.to_k.forward
            self.to_k.forward = lambda x: self._first(made, x)

    def _first(self, made, x):
        self.kept = made(x) if self.kept is None else self.kept
        return self.kept

    def forward(self, hidden_states, timestep):
        shift, scale = self.norm_out(torch.tanh(timestep[:, None] * hidden_states)).chunk(2, -1)
        return self.sign * (shift + hidden_states * scale + torch.tanh(self.to_k(hidden_states)[..., :4]))


class Loop:
    """Three steps with one network."""

    def __init__(self, **net):
        self.components = {"transformer": Net(**net).eval()}

    def __call__(self, seed=0):
        net = self.components["transformer"]
        net.kept = None
        x = whydiff.tap("initial_latents", torch.randn(2, 4, generator=torch.Generator().manual_seed(seed)))
        for k in range(3):
            x = whydiff.tap("latent_model_input", x, step=k)
            made = whydiff.tap("noise_pred_text", net(x, torch.full((2,), 1.0 - k / 3)), step=k)
            x = whydiff.tap("latents", x - 0.3 * made, step=k)
        return whydiff.tap("image", torch.sigmoid(x[:, None, :2, None].expand(2, 2, 2, 3)))


def test_what_shows_at_a_later_step_alone_is_found_behind_what_shows_at_every_step():
    alone = whydiff.diagnose(reference=Loop(), candidate=Loop(stale=True), call={"seed": 0}).to_dict()
    both = whydiff.diagnose(reference=Loop(), candidate=Loop(swapped=True, stale=True), call={"seed": 0}).to_dict()
    assert [cause["id"] for cause in alone["causes"]] == ["kv-cache-not-refreshed"]
    assert [cause["id"] for cause in both["causes"]] == ["adaln-shift-scale-swapped", "kv-cache-not-refreshed"]


def test_a_sign_reversed_around_a_module_that_is_wrong_by_itself_is_named_beside_it():
    both = whydiff.diagnose(reference=Loop(), candidate=Loop(swapped=True, turned=True), call={"seed": 0}).to_dict()
    assert {cause["id"] for cause in both["causes"]} == {"adaln-shift-scale-swapped", "velocity-sign"} and not both["unexplained"]


def test_nothing_further_is_looked_for_once_all_steps_are_repaired():
    verdict = whydiff.diagnose(reference=Loop(), candidate=Loop(swapped=True), call={"seed": 0}).to_dict()
    assert [cause["id"] for cause in verdict["causes"]] == ["adaln-shift-scale-swapped"] and not verdict["unexplained"]
