"""Cutting a text into blocks of tokens for perplexity, and finding the part of the text that blocks cover."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..errors import EquiLMError
from .text_lists import check_text_lists


@dataclass(frozen=True)
class Block:
    """Tokens for one forward pass: ``begin`` to ``end`` of the text; those from ``scored_from`` on are scored."""

    begin: int
    scored_from: int
    end: int

    @property
    def tokens(self) -> int:
        """The number of scored tokens."""
        return self.end - self.scored_from


@dataclass(frozen=True)
class TextBlocks:
    """A text as token ids and the blocks it is cut into; build it with `cut`.

    Args:
        text: the whole text.
        ids: its token ids without special tokens, int64, shape ``(T,)``.
        spans: where each token begins and ends in ``text``, in characters, int64, shape ``(T, 2)``.
        prefix: the special tokens that the tokenizer puts before a text, such as BOS; each block starts with them.
        block_size: the length of a block in tokens, including the prefix.
        stride: how many tokens after the previous block each block starts; None if blocks do not overlap.
        blocks: the blocks, in the order of the text.
    """

    text: str
    ids: Tensor
    spans: Tensor
    prefix: tuple[int, ...]
    block_size: int
    stride: int | None
    blocks: tuple[Block, ...]

    def input_ids(self, blocks: Sequence[Block]) -> Tensor:
        """The model's input for blocks of equal length, int64, shape ``(B, block_size)``."""
        prefix = torch.tensor(self.prefix, dtype=torch.int64)
        return torch.stack([torch.cat([prefix, self.ids[block.begin : block.end]]) for block in blocks])

    def covered(self, count: int) -> str:
        """The part of the text that the first ``count`` blocks cover."""
        return self.text[int(self.spans[0, 0]) : int(self.spans[self.blocks[count - 1].end - 1, 1])]


def cut(
    text: str | Sequence[str], tokenizer: PreTrainedTokenizerBase, block_size: int = 1024, stride: int | None = None
) -> TextBlocks:
    """Tokenize a text as one string and cut it into blocks.

    Without a stride, as in the paper, blocks of ``block_size`` tokens lie side by side, and a last, shorter block is
    dropped. In each block, every token is scored except the first, which has no context; it is scored too if the
    tokenizer puts BOS before it. With a stride, a window slides over the text, as in the perplexity guide of
    transformers. Each token is scored once, in the first window that contains it; the last window may be shorter.

    Args:
        text: one text, or several, which are joined by blank lines.
        tokenizer: a tokenizer that knows where its tokens are in the text (``tokenizer.is_fast``).
        block_size: the number of tokens in a block, including special tokens.
        stride: at least 1 and less than the number of the text's tokens in a block, or None.

    Raises:
        EquiLMError: for a tokenizer that does not know where its tokens are, a text without tokens or shorter than one
            block, and sizes out of range.
    """
    if not tokenizer.is_fast:
        raise EquiLMError(
            f"{type(tokenizer).__name__} does not say where its tokens are in the text, but word and byte perplexity "
            "need this. Load the model's fast tokenizer: AutoTokenizer.from_pretrained(..., use_fast=True)."
        )
    if not isinstance(text, str):
        if len(text) > 0:
            check_text_lists(text=text)
        text = "\n\n".join(text)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids = torch.tensor(encoded["input_ids"], dtype=torch.int64)
    if len(ids) == 0:
        raise EquiLMError(f"The text {text[:40]!r} has no tokens, so there is nothing to score.")
    prefix = _prefix(tokenizer)
    size, first = block_size - len(prefix), 0 if prefix else 1  # the text's tokens in a block; its first scored one
    if size <= first:
        raise EquiLMError(f"block_size={block_size} leaves no token to score; use at least {len(prefix) + first + 1}.")
    if stride is not None and not 1 <= stride < size:
        raise EquiLMError(f"stride={stride} must be at least 1 and less than the {size} tokens of text in a block.")
    if len(ids) < size if stride is None else len(ids) <= first:
        raise EquiLMError(
            f"The text has {len(ids)} tokens, fewer than one block of {size}, so there is nothing to score. Use a "
            "longer text, a smaller block_size, or a stride, with which the last block may be shorter."
        )
    if stride is None:
        blocks = [Block(begin, begin + first, begin + size) for begin in range(0, len(ids) - size + 1, size)]
    else:
        blocks = [Block(0, first, min(size, len(ids)))]
        while blocks[-1].end < len(ids):
            begin = blocks[-1].begin + stride
            blocks.append(Block(begin, blocks[-1].end, min(begin + size, len(ids))))
    spans = torch.tensor(encoded["offset_mapping"], dtype=torch.int64)
    return TextBlocks(text, ids, spans, prefix, block_size, stride, tuple(blocks))


def _prefix(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The special tokens that this tokenizer puts before a text."""
    encoded = tokenizer("a", return_special_tokens_mask=True)
    marked = zip(encoded["input_ids"], encoded["special_tokens_mask"], strict=True)
    return tuple(token for token, _ in takewhile(lambda pair: pair[1] == 1, marked))
