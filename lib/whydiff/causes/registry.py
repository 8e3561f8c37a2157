"""Which experiments are tried at which probe, in order. A new cause adds one line to the table and one here."""

from __future__ import annotations

from whydiff.causes import latents, lengths, lossy, model, model_input, noise, precision, prompt, schedule
from whydiff.causes.finding import Explanation, Finding
from whydiff.errors import Trouble
from whydiff.places import family

EXPERIMENTS = {
    "initial_noise": (precision.explain_stored, noise.explain),
    "input_ids": (prompt.explain_ids,),
    "prompt_embeds": (prompt.explain_embeds, precision.explain),
    "pooled_prompt_embeds": (prompt.explain_embeds, precision.explain),
    "negative_prompt_embeds": (prompt.explain_embeds, precision.explain),
    "sigmas": (schedule.explain,),
    "timesteps": (schedule.explain, schedule.explain_timesteps),
    "model_input": (model_input.explain,),
    "noise_pred_text": (model.explain, precision.explain),
    "noise_pred_uncond": (model.explain, precision.explain),
    "noise_pred": (latents.explain_guidance,),
    "latents": (latents.explain_sign,),
    "vae_latents": (latents.explain_vae_latents,),
    "decoded": (precision.explain,),
    "image": (latents.explain_image, lossy.explain),
}


def explain(finding: Finding, lab) -> list[Explanation]:
    """The causes that an experiment shows at a finding; none where nothing does: then it is unexplained, here."""
    if finding.place not in finding.candidate:
        return attempt(lengths.explain, finding, lab)
    for experiment in EXPERIMENTS.get(family(finding.probe), ()):
        found = attempt(experiment, finding, lab)
        if found:
            return found
    return []


def attempt(experiment, finding: Finding, lab) -> list[Explanation]:
    """One experiment. A side that cannot run it (Trouble) explains nothing, and the verdict notes it."""
    try:
        return experiment(finding, lab)
    except Trouble as trouble:
        lab.notes.append(f"an experiment at {finding.probe} could not be made: {trouble}")
        return []
