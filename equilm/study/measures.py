"""The measures of a study besides regard: exact pairs, the gap of eq. 4, time, and perplexity."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from statistics import fmean, median

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..metrics.perplexity import measure_perplexities
from ..metrics.wikitext import load_wikitext
from .cells import DECODERS, Cell, CellTexts
from .gaps import CellCheck
from .records import CostRecord, GapRecord, PairRecord, PerplexityRecord, PerplexityTable
from .study_plan import Study
from .texts import AxisModels


def gap_records(study: Study, checks: Mapping[Cell, CellCheck]) -> list[GapRecord]:
    """The mean and the largest gap for each axis and decoder, in nats per token."""
    records = []
    for axis in study.axis_names:
        for decoder in study.decoders:
            gaps = [gap for cell in _cells(checks, axis, decoder) for gap in checks[cell].gaps]
            on_text = decoder == "text" or set(study.decoders) <= {"plain", "text"}
            of = "texts" if on_text or decoder == "sequence" else "tokens"
            records.append(GapRecord(axis, decoder, fmean(gaps), max(gaps), len(gaps), of))
    return records


def pair_records(
    study: Study, checks: Mapping[Cell, CellCheck], masked_scores: Callable[[Cell], NDArray[np.float64]] | None
) -> list[PairRecord]:
    """How many texts of the other groups are the swap of the first group's text from the same draws.

    For pairs in which only the name differs, it also checks that their masked scores are equal to the last digit.

    Args:
        study: the axes and decoders.
        checks: the checks of all cells.
        masked_scores: returns the scores of a cell's masked texts, shape ``(samples, labels)``; None if names were not
            masked.
    """
    records = []
    for axis in study.axis_names:
        for decoder in study.decoders:
            first = study.groups_of(axis)[0]
            for group in study.groups_of(axis)[1:]:
                pairs, swaps, names_only, promised, equal, kept = 0, 0, 0, 0, True, True
                for cell, other in _pairs(study, axis, decoder, first, group):
                    check = checks[cell]
                    swapped = np.array(check.swapped)
                    names = swapped & np.array(check.name_only)
                    pairs += len(swapped)
                    swaps += int(swapped.sum())
                    names_only += int(names.sum())
                    if check.promised:
                        promised += len(swapped)
                        kept = kept and bool(swapped.all())
                    if masked_scores is not None:
                        equal = equal and np.array_equal(masked_scores(cell)[names], masked_scores(other)[names])
                same = equal if masked_scores is not None else None
                if pairs:
                    records.append(PairRecord(axis, decoder, group, pairs, swaps, names_only, same, promised, kept))
    return records


def cost_records(study: Study, cells: Mapping[Cell, CellTexts]) -> list[CostRecord]:
    """The time of each decoder in the median cell, on which other work of the machine has little effect."""
    seconds, speeds = {}, {}
    for decoder in study.decoders:
        chosen = [texts for cell, texts in cells.items() if cell.decoder == decoder]
        seconds[decoder] = median(texts.seconds for texts in chosen)
        speeds[decoder] = median(texts.new_tokens / texts.seconds for texts in chosen)
    return [
        CostRecord(
            decoder=decoder,
            seconds_per_cell=seconds[decoder],
            tokens_per_second=speeds[decoder],
            times_plain=seconds[decoder] / seconds["plain"] if "plain" in seconds else None,
        )
        for decoder in study.decoders
    ]


def perplexity_records(
    study: Study,
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    source: str,
    file: Path,
    blocks: int | None = None,
) -> PerplexityTable:
    """Perplexity of the plain model, EquiLM and R-EquiLM of each axis (paper, table 9).

    Args:
        study: the axes.
        base: the plain model.
        tokenizer: its tokenizer.
        source: a text file, or the name of a Wikitext test set.
        file: where the blocks are saved; it may come from `equilm.metrics.perplexity.measure_perplexities` with the
            same models.
        blocks: the number of blocks to score, from the start; None for all.
    """
    models: dict[tuple[str, str | None], PreTrainedModel] = {("plain", None): base}  # by decoder and axis
    for name in study.axis_names:
        wrapped = AxisModels(base, tokenizer, study, name)
        models |= {("equilm", name): wrapped.equilm, ("r-equilm", name): wrapped.relaxed}
    labels = {key: "plain" if key[1] is None else f"{DECODERS[key[0]]} ({key[1]})" for key in models}
    by_label = {labels[key]: model for key, model in models.items()}
    run = measure_perplexities(by_label, tokenizer, load_wikitext(source), blocks=blocks, file=file)
    changes, results = run.compare("plain"), run.compute()
    rows = []
    for (decoder, axis), label in labels.items():
        change, result = changes.get(label), results[label]
        percent, error = (None, None) if change is None else (change.percent, change.standard_error)
        rows.append(PerplexityRecord(label, decoder, axis, result.perplexity, result.word_perplexity, percent, error))
    plain = results["plain"]
    return PerplexityTable(Path(source).name, plain.blocks, plain.block_size, plain.tokens, tuple(rows))


def _cells(checks: Iterable[Cell], axis: str, decoder: str) -> list[Cell]:
    return [cell for cell in checks if cell.axis == axis and cell.decoder == decoder]


def _pairs(study: Study, axis: str, decoder: str, first: str, group: str) -> Iterator[tuple[Cell, Cell]]:
    """A group's cells with those of the first group for the same prompts."""
    for name, task in study.sections:
        for prompt in study.cells_of(axis, task, decoder) if name == axis else ():
            if group in prompt:
                yield prompt[group], prompt[first]
