"""Which experiments are tried at which probe, in order. A new cause adds one line to the table and one here."""

from __future__ import annotations

import os

from whydiff.causes import (
    autocast,
    expert,
    frames,
    left_out,
    lengths,
    lossy,
    model,
    model_input,
    precision,
    prompt,
)
from whydiff.causes.calls import loop, reused
from whydiff.causes.finding import ABSENT, CALLS, Explanation, Finding
from whydiff.causes.guidance import embedded as guidance_embedded
from whydiff.causes.guidance import formula as guidance_formula
from whydiff.causes.guidance import picture as guidance_picture
from whydiff.causes.image import colour, conversion, given
from whydiff.causes.inside import decoding
from whydiff.causes.latents import clip, condition, decode, moved, sign, start
from whydiff.causes.leaks import prompts, race
from whydiff.causes.noise import draws
from whydiff.causes.noise import steps as noise_steps
from whydiff.causes.schedule import config as scheduler_config
from whydiff.causes.schedule import entries as schedule_entries
from whydiff.causes.schedule import euler as schedule_euler
from whydiff.causes.schedule import initial as scheduler_initial
from whydiff.causes.schedule import lists as schedule_lists
from whydiff.causes.schedule import received as scheduler_received
from whydiff.causes.schedule import solved as schedule_solved
from whydiff.causes.schedule import steps as scheduler_steps
from whydiff.errors import OutOfRuns, Trouble
from whydiff.places import family

EXPERIMENTS = {
    "init_image": (given.explain,),
    "mask": (given.explain_mask,),
    "image_latents": (clip.explain_latents, decoding.explain, condition.explain_image_latents, moved.explain),
    "initial_noise": (precision.explain_stored, draws.explain, moved.explain, start.explain_start),
    "initial_latents": (precision.explain_stored, moved.explain, scheduler_initial.explain, scheduler_initial.explain_strength,
                        start.explain_start, draws.explain),
    "latent_model_input": (start.explain_model_input, scheduler_received.explain, condition.explain, moved.explain,
                           precision.explain_rounded),
    "step_noise": (noise_steps.explain,),
    "input_ids": (prompt.explain_ids,),
    "prompt_embeds": (prompt.explain_embeds, autocast.explain, precision.explain, prompts.explain),
    "pooled_prompt_embeds": (prompt.explain_embeds, autocast.explain, precision.explain, prompts.explain),
    "negative_prompt_embeds": (prompt.explain_embeds, autocast.explain, precision.explain, prompts.explain),
    "negative_pooled_prompt_embeds": (prompt.explain_embeds, autocast.explain, precision.explain, prompts.explain),
    "image_embeds": (prompt.explain_embeds, autocast.explain, precision.explain, prompts.explain),
    "attention_mask": (prompt.explain_mask,),
    "sigmas": (scheduler_config.explain, schedule_lists.explain, schedule_solved.explain, schedule_lists.shifted_again,
               scheduler_config.explain_rest),
    "timesteps": (scheduler_config.explain, schedule_lists.explain, schedule_solved.explain, schedule_solved.explain_timesteps,
                  scheduler_config.explain_rest),
    "alphas_cumprod": (scheduler_config.explain, schedule_solved.explain_alphas, scheduler_config.explain_rest),
    "model_input": (guidance_embedded.explain, guidance_picture.explain, model_input.explain, prompt.explain_network_input,
                    precision.explain_rounded),
    "noise_pred_text": (expert.explain, reused.explain, model.explain, autocast.explain, precision.explain, race.explain_finding),
    "noise_pred_uncond": (expert.explain, reused.explain, model.explain, autocast.explain, precision.explain, race.explain_finding),
    "noise_pred": (sign.explain_sign, guidance_formula.explain, precision.explain_rounded),
    "latents": (sign.explain_sign, precision.explain_rounded, scheduler_steps.explain, schedule_euler.explain),
    "vae_latents": (decode.explain, moved.explain, decode.explain_noise, conversion.explain_nan),
    "decoded": (decoding.explain, autocast.explain, precision.explain, conversion.explain_nan),
    "image": (conversion.explain_channels, conversion.explain_conversion, conversion.explain_blank, colour.explain,
              conversion.explain_watermark, lossy.explain),
}


# Where the two tensors have no common shape (`finding.candidate` is empty; `lab.own_value(role, place)` has what each side made).
SHAPES = {
    "init_image": (clip.explain,),
    "initial_noise": (draws.explain_pieces, frames.explain_latents),
    "initial_latents": (frames.explain_latents,),
    "decoded": (frames.explain_decoded,),
    "image": (conversion.explain_blank,),
    "sigmas": (scheduler_config.explain, schedule_entries.left_out, lengths.explain),
    "timesteps": (scheduler_config.explain, schedule_entries.left_out, lengths.explain),
    "input_ids": (prompt.explain_batches, prompt.explain_ids, lengths.explain, prompt.explain_id_lengths),
    "attention_mask": (lengths.explain,),
    "prompt_embeds": (lengths.explain, prompt.explain_embed_shapes),
    "negative_prompt_embeds": (prompt.explain_embed_shapes,),
    "model_input": (model_input.explain_per_token, prompt.explain_network_input_shapes),
}
# Where one side's network is evaluated at other steps, or another number of times.
CALL_EXPERIMENTS = (loop.explain,)


def explain(finding: Finding, lab) -> list[Explanation]:
    """The causes that an experiment shows at a finding; none where nothing does: then it is unexplained, here."""
    if finding.kind == CALLS:
        experiments = CALL_EXPERIMENTS
    elif finding.kind == ABSENT:
        experiments = (guidance_picture.explain_absent, left_out.explain, guidance_embedded.explain_absent)
    elif finding.place not in finding.candidate:
        experiments = SHAPES.get(family(finding.probe), ())
    else:
        experiments = EXPERIMENTS.get(family(finding.probe), ())
    for experiment in experiments:
        found = attempt(experiment, finding, lab)
        if found:
            return found
    return []


def attempt(experiment, finding: Finding, lab) -> list[Explanation]:
    """One experiment. What it raises explains nothing, is noted in the verdict, and never ends the diagnosis."""
    try:
        return experiment(finding, lab)
    except OutOfRuns:
        if lab.exhausted:  # known already; what needs no run may still be found
            return []
        raise
    except Trouble as trouble:
        lab.notes.append(f"an experiment at {finding.probe} could not be made: {trouble}")
    except Exception as error:  # sides hold code and tensors that nobody has seen: one experiment must not cost the verdict
        if os.environ.get("WHYDIFF_DEBUG"):
            raise
        lab.notes.append(f"an experiment at {finding.probe} failed inside whydiff ({type(error).__name__}: {error}); "
                         "set WHYDIFF_DEBUG=1 for the traceback")  # fmt: skip
    return []
