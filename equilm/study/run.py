"""A whole study, one step after the other: sample, check, measure perplexity, score, write the page."""

import json
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import EquiLMError
from ..metrics.regard_classifier import RegardClassifier
from .cells import Study
from .gaps import GAP_TEXTS, check_cells, read_checks
from .measures import perplexity_records
from .page import render, render_summary
from .results import collect, write
from .storage import RecordFile, read_cells, read_header
from .texts import sample_cells


def run_study(
    study: Study,
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    classifier: RegardClassifier | None,
    *,
    name: str | None = None,
    perplexity: str | None = None,
    perplexity_file: Path | None = None,
    blocks: int | None = None,
) -> dict[str, Any] | None:
    """Run a study, or what is left of it, and write its page.

    Under ``accelerate launch`` all processes sample, and the first one does the rest.

    Args:
        study: what to study.
        base: the plain model; it is moved to this process's device.
        tokenizer: its tokenizer.
        folder: keeps everything that is made, and gets ``index.html``, ``summary.md`` (its sentences and tables),
            ``results.json`` and ``results.csv``.
        classifier: from `equilm.metrics.regard_loading.load_classifier`; None leaves scores and page to `rebuild`.
        name: what the model is called; None: where it was loaded from.
        perplexity: a text file, or the name of a Wikitext test set, to measure perplexity on; None: not now.
        perplexity_file: blocks kept by `equilm.metrics.perplexity.measure_perplexities`; None: kept in the folder.
        blocks: measure perplexity on the first so many blocks; None: all.

    Returns:
        What ``results.json`` holds; None without a classifier, and in all processes but the first.

    Raises:
        EquiLMError: for a folder with another study, and for axes that the tokenizer cannot carry.
    """
    state = PartialState()
    base = base.to(state.device)
    settings = study_settings(study, base, name or base.config.name_or_path)
    sample_cells(study, base, tokenizer, folder, settings, state)
    state.destroy_process_group()  # a process that exits before it is closed may abort
    if not state.is_main_process:
        return None
    chosen = set(study.cells())
    cells = {cell: texts for cell, texts in read_cells(folder, settings).items() if cell in chosen}
    check_cells(cells, base, tokenizer, _checks(folder, settings))
    if perplexity is not None:
        kept = perplexity_file or folder / f"perplexity-{Path(perplexity).name}-{'-'.join(study.axes)}.jsonl"
        table = perplexity_records(study, base, tokenizer, perplexity, kept, blocks)
        (folder / "perplexity.json").write_text(json.dumps(table, indent=1) + "\n", "utf-8")
    return None if classifier is None else rebuild(study, folder, classifier)


def rebuild(study: Study, folder: Path, classifier: RegardClassifier) -> dict[str, Any]:
    """Score and write the page anew from what the folder keeps; no model is needed.

    Args:
        study: which axes, tasks and decoders; its numbers must be those of the folder.
        folder: where `run_study` kept its texts and checks.
        classifier: as there, or another one.

    Raises:
        EquiLMError: if texts are missing.
    """
    header = read_header(folder)
    settings = {**header["settings"], **study.sampling_settings()}
    cells, checks = read_cells(folder, settings), read_checks(_checks(folder, settings))
    chosen = study.cells()
    if missing := [cell for cell in chosen if cell not in checks]:
        raise EquiLMError(
            f"{folder} lacks {len(missing)} of {len(chosen)} prompts and decoders, such as {missing[0].prompt!r} by "
            f"{missing[0].decoder}. Run the study without --page-only first, or choose fewer axes, tasks and decoders."
        )
    kept = folder / "perplexity.json"
    perplexity = json.loads(kept.read_text("utf-8")) if kept.exists() else None
    cells, checks = {cell: cells[cell] for cell in chosen}, {cell: checks[cell] for cell in chosen}
    results = collect(study, settings, header["made_with"], cells, checks, classifier, perplexity, folder)
    write(results, folder)
    (folder / "index.html").write_text(render(results), "utf-8")
    (folder / "summary.md").write_text(render_summary(results), "utf-8")
    return results


def study_settings(study: Study, base: PreTrainedModel, name: str) -> dict[str, Any]:
    """What all cells of an output folder share."""
    model = {"model": name, "parameters": base.num_parameters(), "dtype": str(base.dtype).removeprefix("torch.")}
    return {**model, **study.sampling_settings()}


def _checks(folder: Path, settings: dict[str, Any]) -> RecordFile:
    return RecordFile(folder / "checks.jsonl", {**settings, "gap_texts": GAP_TEXTS})
