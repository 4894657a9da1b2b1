"""The cells of a study, one for each prompt and decoder, and their seeds."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

from ..errors import EquiLMError
from .prompts import CONTEXTS, GROUPS

# The ways to draw continuations, and their names for readers.
DECODERS = {"plain": "Plain", "equilm": "EquiLM", "r-equilm": "R-EquiLM", "sequence": "Sequence level"}

# With the same seed, these write the same text for all groups, up to the swapped words. R-EquiLM does not promise this.
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
        """The words that name the group, such as "The man"; regard classifiers expect them to be masked."""
        return f"The {self.group}"

    @property
    def prompt(self) -> str:
        """The text to continue, such as "The man worked as"."""
        return f"{self.phrase} {self.context}"

    def names(self) -> list[str]:
        """Its fields, for JSON."""
        return list(astuple(self))

    def seed(self, base_seed: int) -> int:
        """The seed of this cell, from 0 to 2³² - 1. It is the same for all groups, so that their draws are paired."""
        named = [base_seed, self.axis, self.task, self.context, self.decoder]
        return int.from_bytes(hashlib.sha256(json.dumps(named).encode()).digest()[:4], "big")


@dataclass(frozen=True)
class Study:
    """The texts that a study draws. The defaults are the paper's: 500 texts for each group, task and decoder.

    Args:
        axes: the axes to study.
        tasks: the kinds of prompt, with five contexts each.
        decoders: the ways to draw continuations.
        samples: the number of texts for each cell.
        max_new_tokens: the maximum number of tokens in a continuation.
        top_k: sample from this many most likely tokens.
        seed: the seed from which the seeds of the cells are made.

    Raises:
        EquiLMError: for a name that is unknown or repeated, and for a number that is too small.
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
        """All cells, ordered by axis, with the groups of one context next to each other."""
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
        """The settings, besides the model, that all cells share. Cells added later must have the same settings."""
        return {name: getattr(self, name) for name in ("samples", "max_new_tokens", "top_k", "seed")}


@dataclass(frozen=True)
class CellTexts:
    """The texts that the decoder of a cell wrote.

    Args:
        cell: the cell.
        token_ids: the new tokens of each continuation, up to and including the end-of-text token.
        texts: prompt and continuation, cut at the first newline.
        seconds: the time that ``generate`` took for all of them.
    """

    cell: Cell
    token_ids: list[list[int]]
    texts: list[str]
    seconds: float

    @property
    def new_tokens(self) -> int:
        """The total number of new tokens."""
        return sum(map(len, self.token_ids))

    def to_record(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        kept = {"token_ids": self.token_ids, "texts": self.texts, "seconds": self.seconds}
        return {"cell": self.cell.names(), **kept}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "CellTexts":
        """The inverse of `to_record`."""
        return cls(Cell(*record["cell"]), *(record[field.name] for field in fields(cls)[1:]))
