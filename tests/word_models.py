"""A tokenizer with whole words for the built-in axes, and a tiny model for it: text in, text out, in milliseconds."""

from pathlib import Path

import torch
from small_tokenizers import byte_level
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from equilm import DemographicAxis

_NEUTRAL = "The the doctor was late because worked as known for person a had job of is in nurse kind and works".split()


def word_tokenizer() -> PreTrainedTokenizerBase:
    """Byte-level, as GPT-2's, with the words of the gender, race and orientation axes, except "niece", as tokens."""
    words = [
        word
        for axis in ("gender", "race3", "orientation")
        for entry in DemographicAxis.load(axis).words
        for word in entry
    ]
    words += ["his", "her", "him"]
    words.remove("niece")
    tokens = [f" {word}" for word in words] + [f" {word.title()}" for word in words]
    tokens += [word.title() for word in words] + [f" {word}" for word in _NEUTRAL] + ["The"]
    return byte_level(tokens, eos_token="<end>", pad_token="<pad>")


def word_model(tokenizer: PreTrainedTokenizerBase, padding: int = 7) -> PreTrainedModel:
    """A tiny random Llama whose vocabulary is padded beyond the tokenizer's."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer) + padding,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.4,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config).eval()


def saved_word_model(folder: Path) -> str:
    """The folder, with a tiny random model and its tokenizer in it."""
    tokenizer = word_tokenizer()
    word_model(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
