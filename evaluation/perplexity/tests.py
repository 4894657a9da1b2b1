"""Test cases with a model for which all tokens are equally likely: the arguments of `compute` and its result."""

from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast


def uniform() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model of four words, each with probability 1/4, and its tokenizer."""
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate("abcd")}, unk_token="a"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    model = GPT2LMHeadModel(GPT2Config(vocab_size=4, n_positions=8, n_embd=8, n_layer=1, n_head=2)).eval()
    torch.nn.init.zeros_(model.lm_head.weight)
    return model, PreTrainedTokenizerFast(tokenizer_object=words)


model, tokenizer = uniform()

test_cases: list[dict[str, Any]] = [
    {
        "predictions": ["a b c d a b c"],
        "block_size": 3,
        "result": {"perplexity": 4.0, "word_perplexity": 4.0, "tokens": 4, "text_tokens": 6, "words": 6, "blocks": 2},
    },
    {
        "predictions": ["a b c d a b c"],
        "block_size": 3,
        "stride": 1,
        "result": {"perplexity": 4.0, "byte_perplexity": 4 ** (7 / 13), "tokens": 6, "bytes": 13, "blocks": 5},
    },
    {
        "data": ["a b", "c d"],
        "block_size": 2,
        "blocks": 1,
        "result": {"perplexity": 4.0, "words": 2, "standard_error": None},
    },
]
