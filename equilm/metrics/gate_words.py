"""The words of a prompt, as the gate reports them: named by the axes, swapped by the model, and in no list."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from ..actions import TokenAction
from ..text.action import TextAction
from ..words.axes import DemographicAxis

# Those of the built-in axes that hold the words of all of them.
_WIDEST_AXES = (
    *("gender", "race4", "orientation", "religion", "age", "nationality", "disability", "body", "status"),
    "names",
)


@dataclass(frozen=True)
class PromptWords:
    """The words of a prompt.

    Args:
        named: the words that a swap changes in the text: those of the axes.
        unswapped: those of them in which the model's table swaps no token.
        uncovered: the other words, which are in no list of the axes, so that no fairness is promised for them.
    """

    named: tuple[str, ...]
    unswapped: tuple[str, ...]
    uncovered: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "named_words": list(self.named),
            "unswapped_words": list(self.unswapped),
            "uncovered_words": list(self.uncovered),
        }


def read_words(
    words: TextAction, prompt: str, action: TokenAction | None = None, tokenizer: PreTrainedTokenizerBase | None = None
) -> PromptWords:
    """Sort the words of a prompt.

    Args:
        words: the axes' action on text.
        prompt: the prompt.
        action: the model's action on token ids; None for a server, which swaps texts.
        tokenizer: the tokenizer of these ids.
    """
    spans = None
    if action is not None and tokenizer is not None:
        encoded = tokenizer(prompt, return_offsets_mapping=True)
        moved = action.moved.cpu()[torch.tensor(encoded.input_ids, dtype=torch.int64)].tolist()
        spans = [span for span, is_moved in zip(encoded.offset_mapping, moved, strict=True) if is_moved]
    orbit = [re.findall(r"\S+", image) for image in words.orbit(prompt)]
    found: dict[str, list[str]] = {"named": [], "unswapped": [], "uncovered": []}
    for place, match in enumerate(re.finditer(r"\S+", prompt)):
        word = re.sub(r"^\W+|\W+$", "", match[0])
        # A swap for a phrase of another length shows in the other words' places.
        if all(image[place] == match[0] for image in orbit if len(image) == len(orbit[0])):
            if word:
                found["uncovered"].append(word)
            continue
        found["named"].append(word)
        if spans is not None and not any(start < match.end() and end > match.start() for start, end in spans):
            found["unswapped"].append(word)
    return PromptWords(**{name: tuple(list_) for name, list_ in found.items()})


def words_of_other_axes(prompts: Iterable[PromptWords], axes: Sequence[DemographicAxis]) -> dict[str, list[str]]:
    """The uncovered words that stand in a list of a built-in axis that is not checked, with the names of these axes."""
    checked = {axis.name for axis in axes}
    uncovered = dict.fromkeys(word for prompt in prompts for word in prompt.uncovered)
    others = {name: _words(name) for name in _WIDEST_AXES if name not in checked}
    found = {word: [name for name, words in others.items() if word in words] for word in uncovered}
    return {word: names for word, names in found.items() if names}


@cache
def _words(axis: str) -> frozenset[str]:
    """The single words of a built-in axis, as its lists write them and with a capital."""
    loaded = DemographicAxis.load(axis)
    words = {word for entry in (*loaded.words, *loaded.modifiers) for word in entry if " " not in word}
    return frozenset(words | {word[0].upper() + word[1:] for word in words})
