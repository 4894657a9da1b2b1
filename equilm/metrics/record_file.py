"""An append-only file of JSON lines that survives an interruption."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from ..errors import EquiLMError


@dataclass(frozen=True)
class RecordHeader:
    """The first line of a file of records.

    Args:
        settings: the settings that all its records were made with.
        made_with: further information for readers, such as versions.
    """

    settings: dict[str, Any]
    made_with: dict[str, str]


@dataclass(frozen=True)
class RecordFile:
    """A file of records. Each is written whole or not at all; the first line says what they were made with.

    Args:
        path: the file; the first `append` creates it.
        settings: the settings that all its records are made with, as plain JSON values. A file whose records were made
            with others is refused.
        made_with: further information for readers, such as versions; it is not compared.
    """

    path: Path
    settings: Mapping[str, Any]
    made_with: Mapping[str, str] = field(default_factory=dict)

    def read(self) -> list[dict[str, Any]]:
        """All complete records; a last line that was interrupted is left out.

        Raises:
            EquiLMError: for a file of another kind, and for records that were made with other settings.
        """
        lines = _parse(self.path)
        if not lines:
            return []
        header, *records = lines
        self._check(header["settings"])
        return records

    def _check(self, found: dict[str, Any]) -> None:
        differing = [name for name in {**found, **self.settings} if found.get(name) != self.settings.get(name)]
        if differing:
            listed = "; ".join(f"{n} was {found.get(n)!r} and is now {self.settings.get(n)!r}" for n in differing)
            raise EquiLMError(
                f"{self.path} contains another measurement: {', '.join(differing)} differ ({listed}). Name another "
                "file or folder to start again, or use the same settings to continue."
            )

    def append(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Add records; each is on disk before the next one is written. Call `read` first: it checks the settings."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            file.seek(0)
            finished = file.read().rfind(b"\n") + 1
            file.truncate(finished)  # removes a line that was interrupted
            header = [{"settings": dict(self.settings), "made_with": dict(self.made_with)}] if finished == 0 else []
            for record in chain(header, records):
                file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())


def read_record_header(path: Path) -> RecordHeader | None:
    """The first line of a file of records; None if the file is missing or empty.

    Raises:
        EquiLMError: for a file of another kind.
    """
    lines = _parse(path)
    return RecordHeader(lines[0]["settings"], lines[0].get("made_with", {})) if lines else None


def _parse(path: Path) -> list[dict[str, Any]]:
    """The header and the complete records of a file; empty if there is no file."""
    if not path.exists():
        return []
    try:
        lines: list[dict[str, Any]] = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
        if lines:
            dict(lines[0]["settings"])
    except (ValueError, TypeError, KeyError) as error:
        raise EquiLMError(
            f"{path} is not a file of records ({error!r}). Name another file or folder, or remove it."
        ) from error
    return lines
