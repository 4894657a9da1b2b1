"""Which tokens blocks hold, and which of them are scored, with and without a token that begins every text."""

import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_tokenizers import byte_level
from tokenizers import processors
from transformers import BertTokenizerLegacy, PreTrainedTokenizerBase

from equilm import EquiLMError
from equilm.metrics.text_blocks import cut


def letters(bos: bool = False) -> PreTrainedTokenizerBase:
    """One token for each byte, and with ``bos`` a token before every text."""
    tokenizer: Any = byte_level(["<s>"], bos_token="<s>")
    if bos:
        template = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)])
        tokenizer.backend_tokenizer.post_processor = template
    return tokenizer


def test_blocks_lie_side_by_side_and_the_last_shorter_one_is_dropped() -> None:
    pieces = cut("abcdefghijk", letters(), block_size=4)
    assert [(b.begin, b.scored_from, b.end) for b in pieces.blocks] == [(0, 1, 4), (4, 5, 8)]
    assert letters().batch_decode(pieces.input_ids(pieces.blocks)) == ["abcd", "efgh"]
    assert pieces.covered(1) == "abcd" and pieces.covered(2) == "abcdefgh"


def test_each_block_begins_with_bos_where_the_tokenizer_has_one() -> None:
    pieces = cut("abcdefghijk", letters(bos=True), block_size=4)
    assert [(b.begin, b.scored_from, b.end) for b in pieces.blocks] == [(0, 0, 3), (3, 3, 6), (6, 6, 9)]
    assert letters().batch_decode(pieces.input_ids(pieces.blocks)) == ["<s>abc", "<s>def", "<s>ghi"]


def test_the_window_slides() -> None:
    pieces = cut("abcdefgh", letters(), block_size=5, stride=2)
    assert [(b.begin, b.scored_from, b.end) for b in pieces.blocks] == [(0, 1, 5), (2, 5, 7), (4, 7, 8)]
    assert pieces.input_ids(pieces.blocks[2:]).shape == (1, 4)


@given(st.integers(2, 40), st.integers(3, 12), st.integers(1, 10), st.booleans())
def test_a_sliding_window_scores_each_token_once_with_enough_context(
    length: int, block_size: int, stride: int, bos: bool
) -> None:
    size = block_size - bos
    stride = min(stride, size - 1)
    pieces = cut("x" * length, letters(bos), block_size, stride)
    scored = [token for block in pieces.blocks for token in range(block.scored_from, block.end)]
    assert scored == list(range(0 if bos else 1, length))
    for block in pieces.blocks:
        assert block.end - block.begin <= size
        assert block.begin == 0 or block.scored_from - block.begin >= size - stride


def test_texts_are_joined_by_a_blank_line_and_bytes_are_not_characters() -> None:
    pieces = cut(["né", "a"], letters(), block_size=2)
    assert pieces.text == "né\n\na" and len(pieces.ids) == 6
    assert pieces.ids.dtype == torch.int64


@pytest.mark.parametrize(
    ("text", "block_size", "stride", "message"),
    [
        ("", 4, None, "The text '' has no tokens"),
        ([], 4, 2, "The text '' has no tokens"),
        ("abc", 4, None, "The text has 3 tokens, fewer than one block of 4"),
        ("a", 4, 2, "The text has 1 tokens, fewer than one block of 4"),
        ("abcdef", 4, 0, "stride=0 must be at least 1 and less than the 4 tokens"),
        ("abcdef", 4, 4, "stride=4 must be at least 1 and less than the 4 tokens"),
        ("abcdef", 1, None, "block_size=1 leaves no token to score; use at least 2"),
    ],
)
def test_refuses_what_leaves_nothing_to_score(text: Any, block_size: int, stride: int | None, message: str) -> None:
    with pytest.raises(EquiLMError, match=re.escape(message)):
        cut(text, letters(), block_size, stride)


def test_refuses_a_tokenizer_that_does_not_know_where_its_tokens_are(tmp_path: Any) -> None:
    (tmp_path / "vocab.txt").write_text("[UNK]\n[CLS]\n[SEP]\n[PAD]\n[MASK]\na\n")
    with pytest.raises(EquiLMError, match="BertTokenizerLegacy does not say where its tokens are"):
        cut("a a a", BertTokenizerLegacy(str(tmp_path / "vocab.txt")), block_size=2)
