"""Tokenizers of a few hundred tokens, of each kind in use, whose whole-word tokens are chosen by the test."""

from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast


def byte_level(tokens: Sequence[str], **special: Any) -> PreTrainedTokenizerBase:
    """Like GPT-2's and Llama 3's: ``tokens`` (with the space before a word, if any) are single, all else is bytes."""
    encoder = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    spelled = [encoder.pre_tokenize_str(token)[0][0] for token in tokens]
    vocab = {token: i for i, token in enumerate(dict.fromkeys([*sorted(encoder.alphabet()), *spelled]))}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[], ignore_merges=True))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return _wrap(backend, "byte-level", **special)


def metaspace(tokens: Sequence[str], prepend_scheme: str = "always") -> PreTrainedTokenizerBase:
    """Like T5's and Llama 2's (or Gemma's: ``"never"``): ``tokens`` are written with ▁ for the space before a word."""
    letters = [chr(code) for code in range(ord("A"), ord("z") + 1)]
    pieces = [("<unk>", 0.0), *((piece, -20.0) for piece in ["▁", "#", "\n", *letters])]
    backend = Tokenizer(models.Unigram([*pieces, *((token, -1.0) for token in tokens)], unk_id=0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=prepend_scheme)
    return _wrap(backend, "metaspace", unk_token="<unk>")


def uncased(words: Sequence[str], split: bool = True) -> PreTrainedTokenizerBase:
    """Whole words without case or accents, like BERT's; its unknown token ``[UNK]`` is not declared to transformers."""
    vocab = {token: i for i, token in enumerate(["[UNK]", "#", *words])}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    backend.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()])
    if split:
        backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return _wrap(backend, "uncased")


def _wrap(backend: Tokenizer, name: str, **special: Any) -> PreTrainedTokenizerBase:
    return PreTrainedTokenizerFast(tokenizer_object=backend, name_or_path=name, **special)
