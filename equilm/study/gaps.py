"""The gap of eq. 4 of each decoder on the study's own texts, and which paired texts are each other's swap."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..metrics.record_file import RecordFile
from ..sampling import symmetrized_log_prob
from ..testing import log_prob_gap
from .cells import Cell, CellTexts
from .prompts import GROUPS
from .texts import AxisModels

# The number of texts in each cell on which the gap is measured: enough for a mean, and cheap compared with sampling.
GAP_TEXTS = 5

_CHECKED = ("gaps", "swapped", "name_only")


@dataclass(frozen=True)
class CellCheck:
    """How well one cell's texts satisfy eq. 4.

    Args:
        cell: the cell.
        gaps: |log P(gY|gX) - log P(Y|X)| in nats per token for the first `GAP_TEXTS` texts. There is one value for each
            token, but at the sequence level, where tokens have no probability of their own, one for each text.
        swapped: for each text, whether its tokens are the swap of the first group's text from the same draws.
        name_only: for each text, whether its continuation contains no word of the axis.
    """

    cell: Cell
    gaps: list[float]
    swapped: list[bool]
    name_only: list[bool]

    def to_record(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {"cell": self.cell.names(), **{name: getattr(self, name) for name in _CHECKED}}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "CellCheck":
        """The inverse of `to_record`."""
        return cls(Cell(*record["cell"]), *(record[name] for name in _CHECKED))


def check_cells(
    cells: Mapping[Cell, CellTexts], base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, file: RecordFile
) -> None:
    """Check all cells that are not in the file yet.

    Args:
        cells: the sampled texts of each cell.
        base: the plain model.
        tokenizer: its tokenizer.
        file: where the checks are saved.
    """
    done = read_checks(file)
    models: dict[str, AxisModels] = {}
    for cell, texts in tqdm(cells.items(), desc="Measuring eq. 4", unit="cell"):
        if cell not in done:
            if cell.axis not in models:
                models = {cell.axis: AxisModels(base, tokenizer, cell.axis)}
            check = check_cell(models[cell.axis], texts, cells[replace(cell, group=GROUPS[cell.axis][0])])
            file.append([check.to_record()])


def read_checks(file: RecordFile) -> dict[Cell, CellCheck]:
    """The checks in the file."""
    checks = [CellCheck.from_record(record) for record in file.read()]
    return {check.cell: check for check in checks}


def check_cell(models: AxisModels, texts: CellTexts, first: CellTexts) -> CellCheck:
    """Check one cell.

    Args:
        models: the models of its axis.
        texts: its texts.
        first: the first group's texts in the same context, from the same decoder.
    """
    element = GROUPS[models.axis].index(texts.cell.group)
    table, moved = models.action.permutation[element].tolist(), set(models.action.moved.nonzero().flatten().tolist())
    swapped = [[table[i] for i in one] == other for one, other in zip(first.token_ids, texts.token_ids, strict=True)]
    name_only = [moved.isdisjoint(ids) for ids in texts.token_ids]
    return CellCheck(texts.cell, _gaps(models, texts), swapped, name_only)


@torch.no_grad()
def _gaps(models: AxisModels, texts: CellTexts) -> list[float]:
    action, prompt = models.action, models.prompt_ids(texts.cell)
    rows = [torch.tensor(ids) for ids in texts.token_ids[:GAP_TEXTS]]
    lengths = torch.tensor([len(row) for row in rows], device=prompt.device)
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(prompt.device)  # (B, L)
    mask = (torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]).long()
    prompts = prompt.expand(len(ids), -1)

    if texts.cell.decoder == "sequence":

        def log_q(g: int) -> Tensor:
            images = action.act(prompts, g), action.act(ids, g)
            return symmetrized_log_prob(models.base, *images, action, continuation_mask=mask)

        reference = log_q(0)
        return torch.cat([(log_q(g) - reference).abs() / lengths for g in action.group.elements[1:]]).tolist()
    whole: Any = torch.cat([torch.ones_like(prompts), mask], 1)
    gap = log_prob_gap(
        models.by_decoder(texts.cell.decoder), action, torch.cat([prompts, ids], 1), prompt.shape[1], whole
    )
    return gap[~gap.isnan()].tolist()
