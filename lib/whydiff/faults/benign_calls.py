"""Benign: the same request in another form, the same pipeline behind another surface, the same model by another hand."""

from __future__ import annotations

import functools

import torch

import whydiff
from whydiff.faults.benign import benign
from whydiff.faults.benign_precision import BF16
from whydiff.faults.fault import Trial


@benign("native-port", "flux_port")
def native_port(trial: Trial) -> None:
    """Another implementation of the whole model, with other names and another call order."""


@benign("native-port-bf16-declared", "flux_port", declares=BF16)
def native_port_bf16(trial: Trial) -> None:
    from whydiff.faults.hosts.native import native_flux

    trial.faulty.pipeline = native_flux(dtype="bfloat16")


@benign("native-port-batch-of-two", "flux_port")
def native_port_batch(trial: Trial) -> None:
    for side in (trial.faulty, trial.healthy):
        side.call["prompt"] = ["two blue squares on black", "a red circle"]


@benign("opaque-callable", "flux")
def opaque(trial: Trial) -> None:
    """The same library behind a function that shows two taps and no components."""
    pipeline = trial.faulty.pipeline

    def run(prompt, height, width, num_inference_steps, guidance_scale, max_sequence_length, seed):
        def note(_pipeline, step, _timestep, tensors):
            return {"latents": whydiff.tap("latents", tensors["latents"], step=step)}

        return pipeline(prompt, height=height, width=width, num_inference_steps=num_inference_steps, guidance_scale=guidance_scale,
                        max_sequence_length=max_sequence_length, generator=torch.Generator().manual_seed(seed),
                        callback_on_step_end=note)  # fmt: skip

    trial.faulty.pipeline = run


@benign("adapter-with-components", "sd15")
def adapter(trial: Trial) -> None:
    """The same library behind a function that names its components."""
    pipeline = trial.faulty.pipeline

    def run(prompt, negative_prompt, height, width, num_inference_steps, guidance_scale, generator):
        return pipeline(prompt, height, width, num_inference_steps, guidance_scale=guidance_scale, negative_prompt=negative_prompt,
                        generator=generator)  # fmt: skip

    run.components = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    trial.faulty.pipeline = run


@benign("picture-as-array", "sd15_euler")
@benign("picture-as-array-flux", "flux")
def as_array(trial: Trial) -> None:
    """One side gives 8-bit pictures, the other floats."""
    trial.faulty.call["output_type"] = "np"


@benign("defaults-spelt-out", "flux")
def defaults(trial: Trial) -> None:
    """What is left out here is asked for there, with the value it has anyway."""
    del trial.healthy.call["guidance_scale"]
    trial.faulty.call |= {"guidance_scale": 3.5, "num_images_per_prompt": 1, "true_cfg_scale": 1.0}


@benign("noise-handed-over", "sd15")
def noise(trial: Trial) -> None:
    """The caller draws the noise, with the seed that the pipeline would use."""
    trial.faulty.call["latents"] = torch.randn((1, 4, 12, 16), generator=torch.Generator().manual_seed(trial.faulty.call["seed"]))


@benign("embeddings-handed-over", "sd15")
def embeddings(trial: Trial) -> None:
    """The caller encodes the prompts."""
    call = trial.faulty.call
    with torch.no_grad():
        text, negative = trial.faulty.pipeline.encode_prompt(call.pop("prompt"), "cpu", 1, True, call.pop("negative_prompt"))
    call |= {"prompt_embeds": text, "negative_prompt_embeds": negative}


@benign("init-image-as-tensor", "sd15_img2img")
def init_image(trial: Trial) -> None:
    import numpy as np

    picture = torch.from_numpy(np.asarray(trial.faulty.call["image"]).copy()).permute(2, 0, 1)[None] / 255
    trial.faulty.call["image"] = picture


@benign("prompts-encoded-one-by-one", "flux")
def one_by_one(trial: Trial) -> None:
    """A text encoder that is given a batch one prompt at a time; each is padded to the full length anyway."""
    for side in (trial.faulty, trial.healthy):
        side.call["prompt"] = ["two blue squares on black", "a red circle"]
    encoder = trial.faulty.pipeline.text_encoder_2
    original = encoder.forward

    @functools.wraps(original)
    def forward(input_ids=None, **kwargs):
        rows = [original(input_ids=row[None], **kwargs) for row in input_ids]
        rows[0].last_hidden_state = torch.cat([row[0] for row in rows])
        return rows[0]

    encoder.forward = forward


@benign("sigmas-one-ulp", "sd3")
def sigmas(trial: Trial) -> None:
    """The same formula in another order of operations: the last bit of some sigmas."""
    scheduler = trial.faulty.pipeline.scheduler
    original = scheduler.set_timesteps

    @functools.wraps(original)
    def set_timesteps(*args, **kwargs):
        original(*args, **kwargs)
        inner = scheduler.sigmas[1:-1]
        scheduler.sigmas[1:-1] = torch.nextafter(inner, torch.ones_like(inner))

    scheduler.set_timesteps = set_timesteps


@benign("reloaded-from-disk", "sdxl")
def reloaded(trial: Trial) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="whydiff-faults-") as folder:
        trial.faulty.pipeline.save_pretrained(folder)
        loaded = type(trial.faulty.pipeline).from_pretrained(folder, dtype=torch.float32)
    loaded.set_progress_bar_config(disable=True)
    trial.faulty.pipeline = loaded


@benign("guidance-off-by-scale-one", "sd15")
def guidance_one(trial: Trial) -> None:
    """Without guidance a negative prompt is nothing: one side is given another one."""
    for side in (trial.faulty, trial.healthy):
        side.call["guidance_scale"] = 1.0
    trial.faulty.call["negative_prompt"] = "a yellow circle"


# --- the same request in other words ------------------------------------------------------------------------------------


@benign("generator-in-a-list", "sd15")
@benign("generator-in-a-list-flux", "flux")
def generator_list(trial: Trial) -> None:
    """The caller makes the generator, one for each item, where the other side is given a seed."""
    trial.faulty.call["generator"] = [torch.Generator().manual_seed(trial.faulty.call.pop("seed"))]


@benign("one-generator-for-both", "sd15_ancestral")
def one_generator(trial: Trial) -> None:
    """Both sides are handed one and the same generator object."""
    shared = torch.Generator().manual_seed(trial.faulty.call["seed"])
    for side in (trial.faulty, trial.healthy):
        del side.call["seed"]
        side.call["generator"] = shared


@benign("prompt-in-a-list", "sd3")
@benign("prompt-in-a-list-wan", "wan")
@benign("prompt-in-a-list-sdxl", "sdxl")
def prompt_list(trial: Trial) -> None:
    """A list of one prompt, and one picture for it."""
    call = trial.faulty.call
    for key in ("prompt", "negative_prompt"):
        if isinstance(call.get(key), str):
            call[key] = [call[key]]
    call["num_videos_per_prompt" if trial.faulty.kind == "wan" else "num_images_per_prompt"] = 1


@benign("second-prompt-spelt-out", "flux")
@benign("second-prompt-spelt-out-sdxl", "sdxl")
def second_prompt(trial: Trial) -> None:
    """What the second encoder reads by default is given to it."""
    trial.faulty.call["prompt_2"] = trial.faulty.call["prompt"]


@benign("callback-registered", "sd15_euler")
@benign("callback-registered-qwen", "qwen")
def callback(trial: Trial) -> None:
    """A callback that looks at the latents and hands them back."""

    def look(_pipeline, _step, _timestep, tensors):
        return {"latents": tensors["latents"]}

    trial.faulty.call["callback_on_step_end"] = look


@benign("served-others-before", "sd15")
@benign("served-others-before-flux", "flux")
@benign("served-others-before-wan", "wan")
def served(trial: Trial) -> None:
    """A warm process: three other requests came first, one of them of another size."""
    from whydiff.faults.trial import another_call

    host = another_call(trial.faulty)
    for more in ({}, {"num_inference_steps": 3}, {"height": host.call["height"] + 16} if "height" in host.call else {}):
        call = dict(host.call) | more
        seed = call.pop("seed")
        with torch.no_grad():
            trial.faulty.pipeline(**call, generator=torch.Generator().manual_seed(seed))


@benign("slicing-switched-on-and-off", "sd15_dpm")
@benign("slicing-switched-on-and-off-sdxl", "sdxl")
def slicing(trial: Trial) -> None:
    """Attention and the decoder in slices and tiles, and back."""
    pipeline = trial.faulty.pipeline
    pipeline.enable_attention_slicing(1)
    pipeline.vae.enable_slicing()
    pipeline.vae.enable_tiling()
    pipeline.disable_attention_slicing()
    pipeline.vae.disable_slicing()
    pipeline.vae.disable_tiling()


@benign("network-output-as-tuple", "sd3")
def as_tuple(trial: Trial) -> None:
    """The caller asks for a tuple in place of an output object."""
    trial.faulty.call["return_dict"] = False
