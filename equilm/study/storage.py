"""The files in which a study saves its texts, one for each process, and the settings they were made with."""

from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import EquiLMError
from ..metrics.record_file import RecordFile, read_record_header
from .cells import Cell, CellTexts


@dataclass(frozen=True)
class StudySettings:
    """The settings that all cells of an output folder share.

    Args:
        model: the name of the model.
        parameters: the number of its parameters.
        dtype: the type of its weights, such as "float32".
        samples: the number of texts for each cell.
        max_new_tokens: the maximum number of tokens in a continuation.
        top_k: texts are sampled from this many most likely tokens.
        seed: the seed from which the seeds of the cells are made.
    """

    model: str
    parameters: int
    dtype: str
    samples: int
    max_new_tokens: int
    top_k: int
    seed: int


@dataclass(frozen=True)
class StudyHeader:
    """What the cells in a folder were made with.

    Args:
        settings: the settings that they share.
        made_with: the versions, machine and date.
    """

    settings: StudySettings
    made_with: dict[str, str]


def cell_file(folder: Path, process: int, settings: StudySettings, made_with: dict[str, str]) -> RecordFile:
    """The file in which the process of this number saves the cells that it samples."""
    return RecordFile(folder / f"cells-{process}.jsonl", asdict(settings), made_with)


def read_header(folder: Path) -> StudyHeader:
    """The settings of the cells in a folder, and what they were made with.

    Raises:
        EquiLMError: if there are none.
    """
    for path in sorted(folder.glob("cells-*.jsonl")):
        if (header := read_record_header(path)) is not None:
            try:
                return StudyHeader(StudySettings(**header.settings), header.made_with)
            except TypeError as error:
                raise EquiLMError(
                    f"{path} does not contain texts of a study ({error}). Name another output folder."
                ) from error
    raise EquiLMError(f"There are no texts of a study in {folder}. Run the study first, or name its output folder.")


def read_cells(folder: Path, settings: StudySettings) -> dict[Cell, CellTexts]:
    """The cells that are finished, by all processes.

    Raises:
        EquiLMError: for cells that were sampled with other settings.
    """
    files = [RecordFile(path, asdict(settings)) for path in sorted(folder.glob("cells-*.jsonl"))]
    texts = [CellTexts.from_record(record) for file in files for record in file.read()]
    return {text.cell: text for text in texts}
