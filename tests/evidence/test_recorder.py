"""The recorder changes nothing, leaves nothing behind, and puts in place what it is told to."""

import pathlib

import pytest
import torch

from whydiff import Place, record, tap
from whydiff.evidence.recording.branches import Branches
from whydiff.evidence.recording.recorder import Recorder

MODELS = pathlib.Path(__file__).parents[2] / "data" / "models"
CALL = {"prompt": "a red circle", "height": 48, "width": 64, "num_inference_steps": 3, "max_sequence_length": 16, "output_type": "pt"}


@pytest.fixture(scope="module")
def flux():
    from diffusers import FluxPipeline

    pipeline = FluxPipeline.from_pretrained(MODELS / "tiny-flux", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def run(pipeline, **changes):
    return pipeline(**CALL | changes, generator=torch.Generator().manual_seed(0)).images


def hooks(pipeline):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for c in pipeline.components.values()
               if isinstance(c, torch.nn.Module) for m in c.modules())  # fmt: skip


def test_recording_changes_no_bit_and_leaves_no_hook(flux):
    before = run(flux)
    state = {name: dict(vars(part)) for name, part in (("pipeline", flux), ("vae", flux.vae))}
    with record(flux, modules=["transformer/*"]) as trace:
        during = run(flux)
    assert torch.equal(before, during)
    assert len(trace) > 100
    assert hooks(flux) == 0
    assert "encode_prompt" not in vars(flux) and "decode" not in vars(flux.vae) and "step" not in vars(flux.scheduler)
    assert state["pipeline"].keys() == vars(flux).keys()


def test_hooks_are_gone_after_a_run_that_raised(flux):
    with pytest.raises(RuntimeError, match="stop"), record(flux):
        flux(**CALL, callback_on_step_end=lambda *a: (_ for _ in ()).throw(RuntimeError("stop")))
    assert hooks(flux) == 0 and "step" not in vars(flux.scheduler)


def test_flux_shows_every_probe_of_its_stages(flux):
    with record(flux) as trace:
        run(flux)
    assert set(trace.probes()) >= {
        "initial_noise", "initial_latents", "input_ids", "input_ids_2", "prompt_embeds", "pooled_prompt_embeds", "sigmas", "timesteps",
        "latent_model_input", "model_input/timestep", "model_input/guidance", "model_input/img_ids", "noise_pred_text", "noise_pred",
        "latents", "vae_latents", "decoded"}  # fmt: skip
    assert trace.steps == 3
    assert trace["initial_noise"].shape == (1, 4, 12, 16) and trace["latents"].shape == (1, 48, 16)
    assert all(place.branch is None for place in trace), "without a negative prompt there is no branch"


def test_true_guidance_gives_each_branch_its_own_place(flux):
    with record(flux) as trace:
        run(flux, true_cfg_scale=2.0, negative_prompt="two blue squares")
    assert {p.branch for p in trace.at("latent_model_input")} == {"cond", "uncond"}
    c, u = trace.get("noise_pred_text", 1, "cond"), trace.get("noise_pred_uncond", 1, "uncond")
    torch.testing.assert_close(trace.get("noise_pred", 1), u + 2.0 * (c - u))


def test_every_probe_repairs(flux):
    """Other values put at a probe move everything that follows from it."""
    with record(flux) as plain:
        run(flux)
    for probe in ("initial_noise", "initial_latents", "prompt_embeds", "sigmas", "model_input/guidance", "noise_pred_text", "noise_pred",
                  "latents", "vae_latents"):  # fmt: skip
        recorder = Recorder(substitute=lambda place, own, probe=probe: own * 0.9 if place.probe == probe else None)
        with recorder.listen(flux):
            run(flux)
        assert not torch.equal(recorder.trace["decoded"], plain["decoded"]), probe


def test_a_batched_call_is_split_by_the_embeddings_it_received():
    cond, uncond = torch.full((1, 3, 2), 1.0), torch.full((1, 3, 2), -1.0)
    branches = Branches({"prompt_embeds": cond, "negative_prompt_embeds": uncond})
    for order in (("uncond", "cond"), ("cond", "uncond")):
        text = torch.cat([{"cond": cond, "uncond": uncond}[name] for name in order])
        split = branches.of_call({"sample": torch.arange(2.0)[:, None], "encoder_hidden_states": text})
        assert tuple(name for name, _ in split.parts) == order
    recorder = Recorder(substitute=lambda place, own: own * 0 + 7 if place.branch == "uncond" else None)
    sample = split.observe(recorder, "latent_model_input", torch.arange(2.0)[:, None], step=0, component="unet")
    assert sample.flatten().tolist() == [0.0, 7.0], "a repair is written back into its own part"


def test_a_tap_is_free_when_nothing_listens_and_never_writes_to_its_argument():
    x = torch.ones(3)
    assert tap("x", x) is x
    recorder = Recorder(substitute=lambda place, own: own * 2)
    with recorder.listen(lambda: None):
        y = tap("x", x)
        nested = tap("y", {"a": [x, 5], "b": (x,)})
    assert x.tolist() == [1, 1, 1] and y.tolist() == [2, 2, 2]
    assert nested["a"][1] == 5 and nested["b"][0].tolist() == [2, 2, 2]
    assert {p.probe for p in recorder.trace} == {"x", "y/a/0", "y/b/0"}


def test_the_same_name_twice_in_a_step_is_a_second_occurrence():
    recorder = Recorder()
    with recorder.listen(lambda: None):
        tap("x", torch.zeros(1), step=0)
        tap("x", torch.ones(1), step=0)
    assert list(recorder.trace) == [Place("x", 0), Place("x", 0, occurrence=1)]


class Tapped:
    """A pipeline without encode_prompt: it shows its embeddings by taps, and calls its network once for each."""

    class Network(torch.nn.Module):
        def forward(self, sample, timestep, encoder_hidden_states, encoder_attention_mask=None):
            return sample if encoder_attention_mask is None else sample * encoder_attention_mask.sum()

    class Scheduler:
        def set_timesteps(self, steps):
            self.timesteps = torch.arange(steps)

        def step(self, model_output, timestep, sample):
            return (sample - model_output,)

    def __init__(self):
        self.transformer, self.scheduler = self.Network(), self.Scheduler()
        self.components = {"transformer": self.transformer, "scheduler": self.scheduler}

    def __call__(self, masks=(None, None)):
        cond, uncond = tap("prompt_embeds", torch.ones(1, 3, 2)), tap("negative_prompt_embeds", torch.zeros(1, 3, 2))
        return [self.transformer(torch.ones(1, 4), timestep=torch.ones(1), encoder_hidden_states=text, encoder_attention_mask=mask)
                for text, mask in ((uncond, masks[0]), (cond, masks[1]), (cond, masks[1]))]  # fmt: skip


def test_embeddings_shown_by_taps_tell_the_branches_apart():
    side = Tapped()
    with record(side) as trace:
        side()
    assert [(p.probe, p.branch, p.occurrence) for p in trace if p.probe.startswith("noise_pred")] == [
        ("noise_pred_uncond", "uncond", 0), ("noise_pred_text", "cond", 0), ("noise_pred_text", "cond", 1)]  # fmt: skip


def test_an_argument_left_out_is_counted_call_by_call_and_filled_so():
    side, asked = Tapped(), []
    recorder = Recorder(fill=lambda place: asked.append(place) or torch.full((3,), float(place.occurrence + 1)))
    with recorder.listen(side):
        made = side()
    assert [float(m[0, 0]) for m in made] == [3.0, 3.0, 6.0]
    assert recorder.trace.absent == set(asked) and len(recorder.trace.absent) == 3
    recorder = Recorder()
    with recorder.listen(side):
        side()
    assert recorder.trace.absent == set(asked)
