"""What a study's fairness does not cover: words for people outside the axis's lists, or that tokens do not swap.

Words in no list at all cannot be found. What is searched for are the words of the axis that the tokenizer does not have
as tokens that are swapped, and the words of all other built-in axes.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping

import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..text.action import TextAction
from ..text.reading import read
from .cells import Cell, CellTexts
from .records import UncoveredRecord
from .study_plan import Study
from .texts import AxisModels

# Words of these axes name people, whatever the studied axis is.
_OTHER = ("gender", "race4", "orientation", "religion", "age", "nationality", "disability", "body", "status", "names")

TOKENS = "tokens"


def find_uncovered(
    study: Study, cells: Mapping[Cell, CellTexts], base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> list[UncoveredRecord]:
    """The uncovered words in the prompts and texts of each axis, the most frequent first.

    Args:
        study: the study.
        cells: the texts of its cells.
        base: the plain model.
        tokenizer: its tokenizer.
    """
    others = {name: TextAction(name) for name in _OTHER}
    records: list[UncoveredRecord] = []
    for axis in study.axis_names:
        models = AxisModels(base, tokenizer, study, axis)
        own = models.groups.action
        foreign = {name: action for name, action in others.items() if name != axis}
        prompts: Counter[tuple[str, str]] = Counter()
        texts: Counter[tuple[str, str]] = Counter()
        chosen = {cell: found for cell, found in cells.items() if cell.axis == axis}
        for prompt in {cell.prompt for cell in chosen}:
            prompts.update(set(_words(own, foreign, models, prompt, 0)))
        for cell, found in tqdm(chosen.items(), desc=f"Looking for words that are not covered, {axis}", unit="cell"):
            for text in found.texts:
                texts.update(set(_words(own, foreign, models, text, len(cell.prompt))))
        records += [
            UncoveredRecord(axis, word, prompts[word, reason], texts[word, reason], reason)
            for word, reason in sorted(prompts | texts, key=lambda key: (-prompts[key], -texts[key], key))
        ]
    return records


def _words(
    own: TextAction, foreign: Mapping[str, TextAction], models: AxisModels, text: str, start: int
) -> Iterator[tuple[str, str]]:
    """The uncovered words that begin at ``start`` or later, in lower case, each with the reason."""
    mine = list(_places(own, text))
    if models.has_tokens:
        spans = _moved_spans(models, text) if mine else []
        for place, end, word in mine:
            if place >= start and not any(first < end and last > place for first, last in spans):
                yield word, TOKENS
    known = {place for place, _, _ in mine}
    for name, action in foreign.items():
        for place, _, word in _places(action, text):
            if place >= start and place not in known and word not in own.lexicon.places:
                known.add(place)
                yield word, name


def _places(action: TextAction, text: str) -> Iterator[tuple[int, int, str]]:
    """The start, end and lower-case form of each word that an action moves, without its article."""
    reading = read(action.lexicon, action.judge, text)
    end = 0
    for piece, images in zip(reading.pieces, reading.images, strict=False):
        end += len(piece) + len(images[0])
        word = re.sub(r"^[Aa][Nn]?\s+\W*", "", images[0])
        yield end - len(word), end, " ".join(word.lower().split())


def _moved_spans(models: AxisModels, text: str) -> list[tuple[int, int]]:
    encoded = models.tokenizer(text, return_offsets_mapping=True)
    moved = models.action.moved[torch.tensor(encoded.input_ids, device=models.action.moved.device)].tolist()
    return [span for span, is_moved in zip(encoded.offset_mapping, moved, strict=True) if is_moved]
