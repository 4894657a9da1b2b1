"""The gap of eq. 4 of each decoder on the study's own texts, and which paired texts are each other's swap."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..metrics.record_file import RecordFile
from ..sampling import symmetrized_log_prob
from .cells import PAIRED, Cell, CellTexts
from .own_prompts import NO_GROUP
from .study_plan import Study
from .texts import AxisModels

# The number of texts in each cell on which the gap is measured: enough for a mean, and cheap compared with sampling.
GAP_TEXTS = 5

_CHECKED = ("gaps", "swapped", "name_only")


@dataclass(frozen=True)
class CellCheck:
    """How well one cell's texts satisfy eq. 4.

    Args:
        cell: the cell.
        gaps: |log P(gY|X') - log P(Y|X)| in nats per token for the first `GAP_TEXTS` texts, X' being the prompt of
            another group. There is one value for each token, but where tokens have no probability of their own, at the
            sequence level and on text, one for each text.
        swapped: for each text, whether it is the swap of the first group's text from the same draws.
        name_only: for each text, whether its continuation contains no word of the axis.
        promised: whether the decoder promises that the texts are swapped: all words that tell the groups' prompts
            apart are then words that it swaps.
    """

    cell: Cell
    gaps: list[float]
    swapped: list[bool]
    name_only: list[bool]
    promised: bool

    def to_record(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        kept = {name: getattr(self, name) for name in _CHECKED}
        return {"cell": self.cell.names(), **kept, "promised": self.promised}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "CellCheck":
        """The inverse of `to_record`; older files have only prompts that are swapped."""
        cell = Cell(*record["cell"])
        promised = record.get("promised", cell.decoder in PAIRED)
        return cls(cell, **{name: record[name] for name in _CHECKED}, promised=promised)


def check_cells(
    study: Study,
    cells: Mapping[Cell, CellTexts],
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    file: RecordFile,
) -> None:
    """Check all cells that are not in the file yet.

    Args:
        study: the study.
        cells: the sampled texts of each cell.
        base: the plain model.
        tokenizer: its tokenizer.
        file: where the checks are saved.
    """
    done = read_checks(file)
    models: dict[str, AxisModels] = {}
    for axis, task in study.sections:
        bar = tqdm(study.decoders, desc=f"Measuring eq. 4, {axis}, {task}", unit="decoder")
        for decoder in bar:
            for prompt in study.cells_of(axis, task, decoder):
                first = cells[next(iter(prompt.values()))]
                for cell in prompt.values():
                    if cell not in done:
                        if axis not in models:
                            models = {axis: AxisModels(base, tokenizer, study, axis)}
                        file.append([check_cell(models[axis], cells[cell], first).to_record()])


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
    cell, groups = texts.cell, models.groups
    element = groups.element(first.cell.group, cell.group)
    if cell.decoder == "text" or not models.has_tokens:
        act = models.on_text.action.act_on_continuation
        pairs = zip(_continuations(first), _continuations(texts), strict=True)
        swapped = [act(first.cell.prompt, one, element) == other for one, other in pairs]
        elements = models.on_text.action.group.elements
        name_only = [all(act(cell.prompt, one, g) == one for g in elements) for one in _continuations(texts)]
        return CellCheck(cell, _text_gaps(models, texts), swapped, name_only, cell.decoder == "text")
    table, moved = models.action.permutation[element].tolist(), set(models.action.moved.nonzero().flatten().tolist())
    swapped = [[table[i] for i in one] == other for one, other in zip(first.token_ids, texts.token_ids, strict=True)]
    name_only = [moved.isdisjoint(ids) for ids in texts.token_ids]
    promised = cell.decoder in PAIRED and models.is_swapped(cell)
    return CellCheck(cell, _token_gaps(models, texts), swapped, name_only, promised)


def _continuations(texts: CellTexts) -> list[str]:
    return [text[len(texts.cell.prompt) :] for text in texts.texts]


def _images(models: AxisModels, cell: Cell) -> list[tuple[int, str]]:
    """The elements that lead to the other groups, with their prompts; for a neutral prompt all but the identity."""
    groups = models.groups
    if cell.group == NO_GROUP:
        return [(g, cell.prompt) for g in groups.action.group.elements[1:]]
    others = [group for group in groups.groups if group != cell.group]
    return [(groups.element(cell.group, group), models.image_of(cell, group)) for group in others]


def _text_gaps(models: AxisModels, texts: CellTexts) -> list[float]:
    """Gaps per token of whole texts, at the text level or of the plain model."""
    level, prompt = models.on_text, texts.cell.prompt
    written = [text for text in _continuations(texts)[:GAP_TEXTS] if text]
    lengths = [len(level.token_ids(text)) for text in written]
    symmetrized = texts.cell.decoder == "text"
    reference = level.log_probs(prompt, written, symmetrized=symmetrized)
    gaps = []
    for g, image in _images(models, texts.cell):
        images = [level.action.act_on_continuation(prompt, text, g) for text in written]
        found = level.log_probs(image, images, symmetrized=symmetrized)
        gaps += [abs(a - b) / length for a, b, length in zip(found, reference, lengths, strict=True)]
    return gaps


@torch.no_grad()
def _token_gaps(models: AxisModels, texts: CellTexts) -> list[float]:
    action, cell = models.action, texts.cell
    rows = [torch.tensor(ids) for ids in texts.token_ids[:GAP_TEXTS]]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(models.base.device)  # (B, L)
    lengths = torch.tensor([len(row) for row in rows], device=ids.device)
    mask = (torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]).long()

    def log_probs(prompt: str, continuations: Tensor) -> Tensor:  # (B, L), at the sequence level (B,)
        prompts = models.ids(prompt).expand(len(ids), -1)
        if cell.decoder == "sequence":
            return symmetrized_log_prob(models.base, prompts, continuations, action, continuation_mask=mask)
        whole = torch.cat([prompts, continuations], 1)
        attention = torch.cat([torch.ones_like(prompts), mask], 1)
        model: Any = models.by_decoder(cell.decoder)
        logits = model(input_ids=whole, attention_mask=attention).logits[:, prompts.shape[1] - 1 : -1]
        return logits.float().log_softmax(-1).gather(-1, continuations[..., None])[..., 0]

    reference = log_probs(cell.prompt, ids)
    gaps = torch.stack([(log_probs(p, action.act(ids, g)) - reference).abs() for g, p in _images(models, cell)])
    if cell.decoder == "sequence":
        return (gaps / lengths).flatten().tolist()
    return gaps[:, mask.bool()].flatten().tolist()
