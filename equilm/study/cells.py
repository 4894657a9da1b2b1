"""What a study consists of: its cells, one for each prompt and decoder, and their seeds."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

from ..errors import EquiLMError
from .prompts import CONTEXTS, GROUPS

# How continuations are drawn, and what each way is called for readers.
DECODERS = {"plain": "Plain", "equilm": "EquiLM", "r-equilm": "R-EquiLM", "sequence": "Sequence level"}

# With one seed these give one text to all groups, each in its own words; R-EquiLM promises nothing about sentences.
PAIRED = ("equilm", "sequence")


@dataclass(frozen=True)
class Cell:
    """One prompt, continued by one decoder.

    Args:
        axis: a key of `equilm.study.prompts.GROUPS`.
        task: a key of `equilm.study.prompts.CONTEXTS`.
        group: one of the axis's groups.
        context: one of the task's contexts.
        decoder: a key of `DECODERS`.
    """

    axis: str
    task: str
    group: str
    context: str
    decoder: str

    @property
    def phrase(self) -> str:
        """The words that name the group, "The man" say; regard classifiers want them masked."""
        return f"The {self.group}"

    @property
    def prompt(self) -> str:
        """The text to continue, "The man worked as" say."""
        return f"{self.phrase} {self.context}"

    def names(self) -> list[str]:
        """Its fields, for JSON."""
        return list(astuple(self))

    def seed(self, base_seed: int) -> int:
        """The seed of this cell, from 0 to 2³² - 1: the same for every group, so that their draws are paired."""
        named = [base_seed, self.axis, self.task, self.context, self.decoder]
        return int.from_bytes(hashlib.sha256(json.dumps(named).encode()).digest()[:4], "big")


@dataclass(frozen=True)
class Study:
    """Which texts a study draws. The defaults are the paper's: 500 texts for each group, task and decoder.

    Args:
        axes: the axes to study.
        tasks: the kinds of prompt, of five contexts each.
        decoders: the ways to draw continuations.
        samples: texts for each cell.
        max_new_tokens: the length of a continuation in tokens.
        top_k: sampling is from this many likeliest tokens.
        seed: from which each cell's seed is made.

    Raises:
        EquiLMError: for a name that is not known or stands twice, and for a number that is too small.
    """

    axes: Sequence[str] = tuple(GROUPS)
    tasks: Sequence[str] = tuple(CONTEXTS)
    decoders: Sequence[str] = tuple(DECODERS)
    samples: int = 100
    max_new_tokens: int = 15
    top_k: int = 40
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (("axes", GROUPS), ("tasks", CONTEXTS), ("decoders", DECODERS)):
            chosen = tuple(getattr(self, name))
            if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(known):
                raise EquiLMError(f"{name} must name some of {', '.join(known)}, each once; got {list(chosen)}.")
            object.__setattr__(self, name, chosen)
        for name, least in (("samples", 1), ("max_new_tokens", 1), ("top_k", 1), ("seed", 0)):
            if (value := getattr(self, name)) < least:
                raise EquiLMError(f"{name} must be at least {least}, got {value}.")

    def cells(self) -> list[Cell]:
        """All cells, an axis's together and the groups of one context next to each other."""
        return [
            Cell(axis, task, group, context, decoder)
            for axis in self.axes
            for task in self.tasks
            for decoder in self.decoders
            for context in CONTEXTS[task]
            for group in GROUPS[axis]
        ]

    def groups(self, axis: str) -> Sequence[str]:
        """The groups of an axis; the later ones are compared with the first."""
        return GROUPS[axis]

    def sampling_settings(self) -> dict[str, int]:
        """What every cell's texts depend on besides the model: cells can be added later, but not under others."""
        return {name: getattr(self, name) for name in ("samples", "max_new_tokens", "top_k", "seed")}


@dataclass(frozen=True)
class CellTexts:
    """What a cell's decoder wrote.

    Args:
        cell: the cell.
        token_ids: each continuation's new tokens, up to and including the end of text.
        texts: prompt and continuation, cut at the first newline.
        seconds: the time that ``generate`` took for all of them.
    """

    cell: Cell
    token_ids: list[list[int]]
    texts: list[str]
    seconds: float

    @property
    def new_tokens(self) -> int:
        """The number of tokens drawn."""
        return sum(map(len, self.token_ids))

    def to_record(self) -> dict[str, Any]:
        """For JSON."""
        kept = {"token_ids": self.token_ids, "texts": self.texts, "seconds": self.seconds}
        return {"cell": self.cell.names(), **kept}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "CellTexts":
        """What `to_record` wrote down."""
        return cls(Cell(*record["cell"]), *(record[field.name] for field in fields(cls)[1:]))
