"""`equilm audit`: which words of the axes a tokenizer has as single tokens, and why not the others."""

import argparse

from transformers import AutoTokenizer

from ..loading import load_offline_tokenizer
from ..words import cover_axes, coverage_table, load_axes
from .parser import PAPER_AXES


def run(arguments: argparse.Namespace) -> None:
    """Carry out `equilm audit`; only the tokenizer is loaded."""
    axes = load_axes(arguments.axis or list(PAPER_AXES))
    named = arguments.model is not None
    tokenizer = AutoTokenizer.from_pretrained(arguments.model) if named else load_offline_tokenizer()
    print(coverage_table(cover_axes(axes, tokenizer)))
    for axis in axes:
        if axis.notes:
            print(f"\n{axis.name}: {axis.notes}")
