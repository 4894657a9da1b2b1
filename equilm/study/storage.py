"""Keeping what a study has made: JSON lines that survive an interruption, one file for each process."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from ..errors import EquiLMError
from .cells import Cell, CellTexts


@dataclass(frozen=True)
class RecordFile:
    """A file of records, each written whole or not at all, under a first line that says what they were made with.

    Args:
        path: the file; it is made by the first `append`.
        settings: what all its records have in common, as plain JSON values. Records made with others are refused.
        made_with: what readers may want to know besides; nothing is refused for it.
    """

    path: Path
    settings: dict[str, Any]
    made_with: dict[str, str] = field(default_factory=dict)

    def read(self) -> list[dict[str, Any]]:
        """All finished records; a last line that an interruption cut short is none.

        Raises:
            EquiLMError: for a file that is no such file, or whose records were made with other settings.
        """
        header, *records = _parse(self.path) or [{"settings": self.settings}]
        self._check(header["settings"])
        return records

    def _check(self, found: dict[str, Any]) -> None:
        differing = [name for name in {**found, **self.settings} if found.get(name) != self.settings.get(name)]
        if differing:
            listed = "; ".join(f"{n} was {found.get(n)!r} and is now {self.settings.get(n)!r}" for n in differing)
            raise EquiLMError(
                f"{self.path} was made with other settings: {listed}. Choose another output folder to start anew, or "
                "the settings of before to go on."
            )

    def append(self, records: Iterable[dict[str, Any]]) -> None:
        """Add records, each safely on disk before the next; `read` first, which checks the settings."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            file.seek(0)
            finished = file.read().rfind(b"\n") + 1
            file.truncate(finished)  # of a line that an interruption cut short
            header = [{"settings": self.settings, "made_with": self.made_with}] if finished == 0 else []
            for record in chain(header, records):
                file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())


def cell_file(folder: Path, process: int, settings: dict[str, Any], made_with: dict[str, str]) -> RecordFile:
    """Where this process, by its number, keeps the cells it has sampled."""
    return RecordFile(folder / f"cells-{process}.jsonl", settings, made_with)


def read_header(folder: Path) -> dict[str, Any]:
    """The settings of the cells in a folder, and what they were made with.

    Raises:
        EquiLMError: if there are none.
    """
    for path in sorted(folder.glob("cells-*.jsonl")):
        if lines := _parse(path):
            return lines[0]
    raise EquiLMError(f"There are no texts of a study in {folder}. Run it first, or name its output folder.")


def read_cells(folder: Path, settings: dict[str, Any]) -> dict[Cell, CellTexts]:
    """The cells that any process has finished.

    Raises:
        EquiLMError: for cells that were sampled with other settings.
    """
    files = [RecordFile(path, settings) for path in sorted(folder.glob("cells-*.jsonl"))]
    texts = [CellTexts.from_record(record) for file in files for record in file.read()]
    return {text.cell: text for text in texts}


def _parse(path: Path) -> list[dict[str, Any]]:
    """The header and the records of a file, without a last line that was cut short; nothing if there is no file."""
    if not path.exists():
        return []
    try:
        lines: list[dict[str, Any]] = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
        if lines:
            dict(lines[0]["settings"])
    except (ValueError, TypeError, KeyError) as error:
        raise EquiLMError(
            f"{path} is not a file of study records ({error!r}). Choose another output folder, or remove it."
        ) from error
    return lines
