"""Real CLIP and T5 tokenizers with a vocabulary of the captions' words, built without a download."""

import json
import string

from shapes import words
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer, T5TokenizerFast

LENGTH = 16
"""Tokens of a prompt, pads included. FLUX attends to the pads, so the trained length is part of the model."""
CHARACTERS = string.ascii_lowercase + string.digits + string.punctuation


def build_clip_tokenizer() -> CLIPTokenizer:
    """Byte pair encoding whose merges spell each word of the grammar as one token; the rest is spelt out.

    The final letters are given as special tokens: the trainer numbers them at random otherwise.
    """
    trained = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix="</w>"))
    trained.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=100_000,
        min_frequency=1,
        initial_alphabet=list(CHARACTERS),
        special_tokens=[f"{character}</w>" for character in CHARACTERS],
        show_progress=False,
        continuing_subword_prefix="",
        end_of_word_suffix="</w>",
    )
    trained.train_from_iterator([" ".join(sorted(words())), " ".join(CHARACTERS)], trainer)
    model = json.loads(trained.to_str())["model"]
    pieces = sorted(model["vocab"], key=model["vocab"].get)
    vocabulary = {piece: index for index, piece in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    merges = [tuple(merge) for merge in model["merges"]]
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH)


def build_t5_tokenizer(length: int = LENGTH) -> T5TokenizerFast:
    """Unigram model with one piece per word of the grammar, and single characters for the rest."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -4.0)]
    pieces += [(f"▁{word}", -1.0 - 0.01 * rank) for rank, word in enumerate(words())]
    pieces += [(character, -10.0) for character in string.ascii_letters + string.digits + string.punctuation]
    return T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=length)
