"""`equilm audit`: which words of the axes a tokenizer has as single tokens, and which longer words a swap damages."""

import argparse
from collections.abc import Sequence

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from .._coverage import Coverage
from ..loading import default_model, load_offline_tokenizer, offline_remedy
from ..words import cover_axes, coverage_table, load_axes
from ..words.surface_forms import longer_words
from .parser import PAPER_AXES


def run(arguments: argparse.Namespace) -> None:
    """Run `equilm audit`; only the tokenizer is loaded."""
    axes = load_axes(arguments.axis or list(PAPER_AXES))
    name = arguments.model or default_model()
    with offline_remedy(arguments.model):
        tokenizer = load_offline_tokenizer() if name is None else AutoTokenizer.from_pretrained(name)
    coverage = cover_axes(axes, tokenizer)
    print(coverage_table(coverage))
    print(f"\n{cut_table(coverage, tokenizer)}")
    for axis in axes:
        if axis.notes:
            print(f"\n{axis.name}: {axis.notes}")


def cut_table(coverage: Sequence[Coverage], tokenizer: PreTrainedTokenizerBase) -> str:
    """The common English words that contain a swapped token as a piece, with their uses per million words."""
    lines = []
    for row, pieces in longer_words(coverage, tokenizer):
        for word, uses in zip(row.words, pieces, strict=True):
            if uses.longer:
                named = ", ".join(f"{longer} {count / 1000:.1f}" for longer, count in list(uses.longer.items())[:4])
                more = f", {len(uses.longer) - 4} more" if len(uses.longer) > 4 else ""
                lines.append((uses.share, f"  {word:<12} {row.variant:<8} {uses.share:>6.2%}  {named}{more}"))
    if not lines:
        return "The swaps cut into no common English word."
    ordered = [line for _, line in sorted(lines, key=lambda line: -line[0])]
    head = "Words that a swap cuts into: share of the token's uses, and the longer words with their uses per million"
    return "\n".join((head, *ordered))
