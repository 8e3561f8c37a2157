"""Faults of stage `prompt_encoding` before the encoder: which ids the prompt becomes, and how many."""

from __future__ import annotations

import functools

import torch

from whydiff.faults.fault import Trial, fault
from whydiff.faults.rewriting import become, edit, requests

_LONG = "two blue squares on black two green circles on white a yellow triangle on red two red squares on green"


@fault("prompt-cleaning", "sd15", "sdxl", "wan", "sd3", "flux", prompt="a Red Circle  &amp; a square")
def _(trial: Trial) -> None:
    """Wan's pipeline cleans (entities, spaces); CLIP's tokenizer folds capitals and spaces. One of them is not done."""
    pipeline = trial.faulty.pipeline
    if trial.faulty.kind == "wan":
        edit(pipeline, "_get_t5_prompt_embeds", prompt_clean=lambda text: text)
        return
    from tokenizers import normalizers

    for name in ("tokenizer", "tokenizer_2"):
        backend = getattr(getattr(pipeline, name, None), "backend_tokenizer", None)
        if backend is not None and backend.normalizer is not None:
            backend.normalizer = normalizers.Sequence([normalizers.NFC()])


@fault("max-sequence-length", "flux", "flux_port", "wan", "sd3", "ltx")
def _(trial: Trial) -> None:
    """Another padded length, asked for or written into the code."""
    length = trial.draw.choice([10, 12, 24, 32])
    if trial.faulty.kind == "flux_port" or trial.draw.random() < 0.5:
        trial.faulty.call["max_sequence_length"] = length
        return

    def constant(arguments):
        arguments["max_sequence_length"] = length

    requests(trial.faulty.pipeline, constant)


@fault("pad-token-id", "flux", "sd15", "sdxl", "sd3", "flux_port")
def _(trial: Trial) -> None:
    """EOS or "!" where another id pads."""
    pipeline = trial.faulty.pipeline
    if trial.faulty.kind == "flux_port":
        tokenizer = pipeline.tokenizer_2
        tokenizer.pad_token, tokenizer.pad_id = "</s>", tokenizer.tokenizer.token_to_id("</s>")
    elif trial.faulty.kind == "flux":
        pipeline.tokenizer_2.pad_token = "</s>"
    elif trial.faulty.kind == "sd3":
        pipeline.tokenizer_3.pad_token = "</s>"
    else:
        pipeline.tokenizer.pad_token = trial.draw.choice(["!", "a"])


@fault("pad-token-collides-with-word", "sd15", "sdxl", prompt="a red circle !! blue squares!!!")
def _(trial: Trial) -> None:
    """Both pad with the id of "!"; one has it registered as the pad token, so that it is cut out of words."""
    for host in (trial.faulty, trial.healthy):
        tokenizer = host.pipeline.tokenizer
        become(tokenizer, pad_token_id=tokenizer.convert_tokens_to_ids("!"))
    trial.faulty.pipeline.tokenizer.add_special_tokens({"pad_token": "!"})


@fault("double-bos", "sd15", "sdxl", "qwen")
def _(trial: Trial) -> None:
    """The rendered text has its BOS, and the tokenizer adds one."""
    faulty, healthy = trial.faulty.pipeline, trial.healthy.pipeline
    if trial.faulty.kind == "qwen":
        from tokenizers.processors import TemplateProcessing

        bos = "<|endoftext|>"
        for pipeline in (faulty, healthy):
            pipeline.prompt_template_encode = bos + pipeline.prompt_template_encode
            pipeline.prompt_template_encode_start_idx += 1
        backend = faulty.tokenizer.backend_tokenizer
        backend.post_processor = TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, backend.token_to_id(bos))])
        return

    def render(arguments):
        arguments["prompt"] = faulty.tokenizer.bos_token + arguments["prompt"]

    requests(faulty, render)


@fault("prompt-template-dropped", "qwen")
def _(trial: Trial) -> None:
    """The bare prompt, or another system text with its own length cut."""
    pipeline = trial.faulty.pipeline
    if trial.draw.random() < 0.5:
        pipeline.prompt_template_encode, pipeline.prompt_template_encode_start_idx = "{}", 0
        return
    before, after = pipeline.prompt_template_encode.split("{}")
    before = before.replace("Describe the image by its color and shape", "Describe the image")
    pipeline.prompt_template_encode = before + "{}" + after
    pipeline.prompt_template_encode_start_idx = len(pipeline.tokenizer(before).input_ids)


@fault("template-prefix-not-cropped", "qwen")
def _(trial: Trial) -> None:
    pipeline = trial.faulty.pipeline
    right = pipeline.prompt_template_encode_start_idx
    pipeline.prompt_template_encode_start_idx = trial.draw.choice([0, right - 3, right - 1, right + 2])


def _chunks(pipeline, text: str, size: int) -> list[torch.Tensor]:
    """The ids of `text` in pieces of `size`, each with its BOS and EOS and padded to the encoder's length, (1, L) each."""
    tokenizer = pipeline.tokenizer
    ids = tokenizer(text, add_special_tokens=False).input_ids
    pieces = [ids[start : start + size] for start in range(0, max(len(ids), 1), size)]
    made = []
    for piece in pieces:
        row = [tokenizer.bos_token_id, *piece, tokenizer.eos_token_id]
        made.append(torch.tensor([row + [tokenizer.pad_token_id] * (tokenizer.model_max_length - len(row))]))
    return made


def _encode_in_chunks(pipeline, size: int | None = None, pad_negative: bool = True) -> None:
    """encode_prompt of SD1.5 with chunks of any prompt's length, side by side; the shorter prompt gets empty chunks."""
    original = type(pipeline).encode_prompt
    size = size or pipeline.tokenizer.model_max_length - 2

    @functools.wraps(original)
    def encode_prompt(self, prompt, device, num_images_per_prompt, do_classifier_free_guidance, negative_prompt=None, **_):
        positive, negative = _chunks(self, prompt, size), _chunks(self, negative_prompt or "", size)
        if pad_negative:
            longest = max(len(positive), len(negative))
            positive += _chunks(self, "", size) * (longest - len(positive))
            negative += _chunks(self, "", size) * (longest - len(negative))
        prompt_embeds = torch.cat([self.text_encoder(ids)[0] for ids in positive], dim=1)
        negative_prompt_embeds = torch.cat([self.text_encoder(ids)[0] for ids in negative], dim=1)
        return prompt_embeds, negative_prompt_embeds

    become(pipeline, encode_prompt=encode_prompt)


@fault("long-prompt-truncated", "sd15", "sd15_euler", prompt=_LONG)
def _(trial: Trial) -> None:
    """Chunks against a cut at the encoder's length, or against chunks split at other places."""
    _encode_in_chunks(trial.healthy.pipeline)
    if trial.draw.random() < 0.4:
        _encode_in_chunks(trial.faulty.pipeline, size=trial.faulty.pipeline.tokenizer.model_max_length - trial.draw.choice([3, 4]))


@fault("chunk-count-pos-neg", "sd15", "sd15_euler", prompt=_LONG)
def _(trial: Trial) -> None:
    """Both run the branches one after the other, so that their lengths may differ; one adds no empty chunk to the negative."""

    def one_by_one(unet):
        def both(latent_model_input, t, encoder_hidden_states, **more):
            inputs = latent_model_input.chunk(2)
            return (torch.cat([unet(x, t, encoder_hidden_states=e, **more)[0] for x, e in zip(inputs, encoder_hidden_states, strict=True)]),)

        return both

    for host in (trial.faulty, trial.healthy):
        _encode_in_chunks(host.pipeline, pad_negative=host is trial.healthy)
        edit(host.pipeline, "__call__",
             ("prompt_embeds = torch.cat([negative_prompt_embeds, prompt_embeds])", "pass"),
             ("noise_pred = self.unet(", "noise_pred = one_by_one(self.unet)("),
             ("encoder_hidden_states=prompt_embeds,", "encoder_hidden_states=[negative_prompt_embeds, prompt_embeds],"),
             one_by_one=one_by_one)  # fmt: skip
