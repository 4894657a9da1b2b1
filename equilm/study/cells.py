"""The cells of a study, one for each prompt and decoder, and their seeds."""

import hashlib
import json
from dataclasses import astuple, dataclass, fields
from typing import Any

# The ways to draw continuations, and their names for readers.
DECODERS = {
    "plain": "Plain",
    "equilm": "EquiLM",
    "r-equilm": "R-EquiLM",
    "sequence": "Sequence level",
    "text": "Sequence level on text",
}

# With the same seed, these write the same text for all groups, up to the swapped words. R-EquiLM does not promise this.
PAIRED = ("equilm", "sequence", "text")


@dataclass(frozen=True)
class Cell:
    """One prompt, continued by one decoder.

    Args:
        axis: the name of the axis.
        task: the kind of prompt.
        group: one of the axis's groups; empty for a prompt that names none.
        context: one of the task's contexts, or a line of a file of prompts.
        decoder: a key of `DECODERS`.
        text: the prompt; empty for the paper's prompts, whose text follows from the group and the context.
    """

    axis: str
    task: str
    group: str
    context: str
    decoder: str
    text: str = ""

    @property
    def phrase(self) -> str:
        """How the paper's prompts name the group, such as "The man"; regard classifiers expect this to be masked."""
        return f"The {self.group}"

    @property
    def prompt(self) -> str:
        """The text to continue, such as "The man worked as"."""
        return self.text or f"{self.phrase} {self.context}"

    def names(self) -> list[str]:
        """Its fields, for JSON."""
        return list(astuple(self))[: None if self.text else -1]

    def seed(self, base_seed: int) -> int:
        """The seed of this cell, from 0 to 2³² - 1. It is the same for all groups, so that their draws are paired."""
        named = [base_seed, self.axis, self.task, self.context, self.decoder]
        return int.from_bytes(hashlib.sha256(json.dumps(named).encode()).digest()[:4], "big")


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
