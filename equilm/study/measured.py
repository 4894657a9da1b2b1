"""What a study measures with its model besides the texts, kept in its folder for when the page is written again."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ..errors import EquiLMError
from ..words.axes import DemographicAxis
from .records import PerplexityTable, UncoveredRecord


def write_perplexity(folder: Path, table: PerplexityTable) -> None:
    """Keep the perplexities."""
    _write(folder / "perplexity.json", asdict(table))


def read_perplexity(folder: Path) -> PerplexityTable | None:
    """The perplexities; None if they were not measured."""
    path = folder / "perplexity.json"
    return PerplexityTable.from_dict(json.loads(path.read_text("utf-8"))) if path.exists() else None


def write_uncovered(folder: Path, records: Sequence[UncoveredRecord]) -> None:
    """Keep the words that are not covered."""
    _write(folder / "uncovered.json", [asdict(record) for record in records])


def read_uncovered(folder: Path, axes: Sequence[str]) -> list[UncoveredRecord] | None:
    """The words of these axes that are not covered; None if this was not recorded."""
    path = folder / "uncovered.json"
    if not path.exists():
        return None
    records = [UncoveredRecord(**record) for record in json.loads(path.read_text("utf-8"))]
    return [record for record in records if record.axis in axes]


def check_axes(folder: Path, axes: Sequence[DemographicAxis]) -> None:
    """Keep the lists of the axes, and refuse an axis whose lists were others when the folder's texts were drawn.

    Raises:
        EquiLMError: names the axis.
    """
    path = folder / "axes.json"
    kept = json.loads(path.read_text("utf-8")) if path.exists() else {}
    for axis in axes:
        own = json.loads(json.dumps(axis.to_dict()))
        if kept.setdefault(axis.name, own) != own:
            raise EquiLMError(
                f"The axis {axis.name!r} had other words when the texts in {folder} were drawn. Name another output "
                "folder to study the new words, or give the old ones."
            )
    folder.mkdir(parents=True, exist_ok=True)
    _write(path, kept)


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
