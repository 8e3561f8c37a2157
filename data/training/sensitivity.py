"""How far typical faults move the latents of tiny-flux: a fault that moves nothing could not be found."""

import argparse
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
from evaluate import MODEL, load_pipeline
from torch import Tensor


def draw_latents(pipeline: FluxPipeline, **call) -> Tensor:
    """Packed latents (1, L, 4C) after the last step."""
    seed = call.pop("seed", 3)
    call = {"height": 48, "width": 64, "guidance_scale": 3.5, "max_sequence_length": 16} | call
    return pipeline(generator=torch.Generator("cpu").manual_seed(seed), output_type="latent", **call).images


def change_call(module, change):
    """Patches `module.forward`: `change(forward, kwargs)` calls it instead."""
    forward = module.forward
    return patch.object(module, "forward", lambda *args, **kwargs: change(forward, args, kwargs))


def with_mask(forward, args, kwargs):
    """T5 called with the attention mask that FLUX leaves out."""
    return forward(*args, **kwargs | {"attention_mask": (args[0] != 0).long()})


def static_schedule(pipeline: FluxPipeline, shift: float):
    """Patches the scheduler to a constant shift."""
    settings = {"use_dynamic_shifting": False, "shift": shift}
    return patch.object(
        pipeline,
        "scheduler",
        FlowMatchEulerDiscreteScheduler.from_config(pipeline.scheduler.config, **settings),
    )


def scaled(name: str, factor: float):
    """A change that multiplies one argument of the transformer."""
    return lambda forward, args, kwargs: forward(*args, **kwargs | {name: kwargs[name] * factor})


def faults(pipeline: FluxPipeline) -> dict[str, tuple[list, dict]]:
    """Name -> (patches, changed arguments of the call)."""
    model, t5 = pipeline.transformer, pipeline.text_encoder_2
    return {
        "none (repeat)": ([], {}),
        "another seed": ([], {"seed": 4}),
        "guidance scale 1.0": ([], {"guidance_scale": 1.0}),
        "guidance scale 3.0": ([], {"guidance_scale": 3.0}),
        "T5 attention mask applied": ([change_call(t5, with_mask)], {}),
        "T5 length 12": ([], {"max_sequence_length": 12}),
        "T5 length 512": ([], {"max_sequence_length": 512}),
        "pooled CLIP zeroed": ([change_call(model, scaled("pooled_projections", 0.0))], {}),
        "T5 zeroed": ([change_call(model, scaled("encoder_hidden_states", 0.0))], {}),
        "image ids zeroed (no RoPE)": ([change_call(model, scaled("img_ids", 0.0))], {}),
        "image ids h and w swapped": (
            [change_call(model, lambda f, a, k: f(*a, **k | {"img_ids": k["img_ids"][:, [0, 2, 1]]}))],
            {},
        ),
        "timestep times 1000": ([change_call(model, scaled("timestep", 1000.0))], {}),
        "timestep times 0.9": ([change_call(model, scaled("timestep", 0.9))], {}),
        "static shift 1": ([static_schedule(pipeline, 1.0)], {}),
        "static shift 3": ([static_schedule(pipeline, 3.0)], {}),
        "velocity negated": ([change_call(model, lambda f, a, k: (-f(*a, **k)[0],))], {}),
    }


def main() -> None:
    """Prints the relative L2 distance of the final latents for each fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL, help="default: data/models/tiny-flux")
    options = parser.parse_args()
    pipeline = load_pipeline(options.model)
    requests = [
        {"prompt": "two blue squares on black", "num_inference_steps": 12},
        {"prompt": "two blue squares on black", "num_inference_steps": 4},
        {"prompt": "a red circle", "num_inference_steps": 12},
    ]
    print(
        " " * 28
        + "  ".join(f"{request['prompt']}, {request['num_inference_steps']} steps" for request in requests)
    )
    references = [draw_latents(pipeline, **request) for request in requests]
    for name, (patches, changed) in faults(pipeline).items():
        with ExitStack() as stack:
            for each in patches:
                stack.enter_context(each)
            distances = [
                float((draw_latents(pipeline, **request | changed) - reference).norm() / reference.norm())
                for request, reference in zip(requests, references)
            ]
        print(f"{name:28}" + "".join(f"{distance:<12.4f}" for distance in distances))


if __name__ == "__main__":
    main()
