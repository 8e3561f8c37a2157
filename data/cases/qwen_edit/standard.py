"""The exact no-ops once more, on diffusers' own QwenImagePipeline: the claim is structural and must not hang on our sampler."""

import torch

from qwen_edit import nodes
from qwen_edit.pipeline import make_lora, make_transformer
from whydiff.audits.result import Table
from whydiff.measure.compare import compare


def pipeline(weights: int = 0, order=("lora", "aura_flow")):
    """QwenImagePipeline without encoder and autoencoder, with the adapter merged into its weights and the shift of AuraFlow."""
    from diffusers import FlowMatchEulerDiscreteScheduler, QwenImagePipeline

    model = nodes.Patcher(make_transformer(weights))
    settings = {"lora": (make_lora(model.transformer, weights),), "aura_flow": (3.0,)}
    for name in order:
        model = nodes.NODES[name](model, *settings[name])
    made = QwenImagePipeline(scheduler=FlowMatchEulerDiscreteScheduler(shift=model.shift), vae=None, text_encoder=None,
                             tokenizer=None, transformer=model.patched())  # fmt: skip
    made.set_progress_bar_config(disable=True)
    return made


def latents(pipe, cfg: float = 1.0, negative_seed: int = 5, seed: int = 12345) -> torch.Tensor:
    """(1, L, 64) after four steps; guidance normalises the prediction in diffusers whenever it runs."""
    embeds = {name: torch.randn(1, 12, 32, generator=torch.Generator().manual_seed(s))
              for name, s in (("prompt_embeds", 4), ("negative_prompt_embeds", negative_seed))}  # fmt: skip
    masks = {f"{name}_mask": torch.ones(1, 12, dtype=torch.int64) for name in embeds} if cfg > 1 else {}
    if cfg <= 1:  # diffusers warns of a negative that has no effect; the warning is its own evidence
        masks = {f"{name}_mask": torch.ones(1, 12, dtype=torch.int64) for name in embeds}
    return pipe(**embeds, **masks, true_cfg_scale=cfg, height=64, width=48, num_inference_steps=4, output_type="latent",
                generator=torch.Generator().manual_seed(seed), return_dict=True).images  # fmt: skip


def no_ops(cfg: float = 1.0, weights: int = 0) -> Table:
    """Each of the note's suspicions that is structural, as an intervention: the largest difference of the latents."""
    known = latents(pipeline(weights), cfg)
    training, disturbed = pipeline(weights), pipeline(weights)
    training.transformer.train()
    torch.rand(7)
    changed = {"train() for eval()": latents(training, cfg), "shift before adapter": latents(pipeline(weights, ("aura_flow", "lora")), cfg),
               "random numbers drawn before": latents(disturbed, cfg), "another negative": latents(pipeline(weights), cfg, 6),
               "another seed": latents(pipeline(weights), cfg, seed=1)}  # fmt: skip
    rows = tuple((name, compare(known, value).max_abs, compare(known, value).equal) for name, value in changed.items())
    return Table(("changed", f"largest difference at cfg {cfg:g}", "equal bit for bit"), rows)
