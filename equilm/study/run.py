"""Running a whole study step by step: sample, check, look for what is not covered, measure perplexity, judge, write."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from accelerate import PartialState
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import EquiLMError
from ..metrics.record_file import RecordFile
from ..metrics.regard_classifier import RegardClassifier
from .gaps import GAP_TEXTS, check_cells, read_checks
from .measured import check_axes, write_perplexity, write_uncovered
from .measures import perplexity_records
from .page import render, render_summary
from .records import StudyResults
from .results import collect, write
from .storage import StudySettings, read_cells, read_header
from .study_plan import Study
from .text_judges import TextJudge
from .texts import sample_cells
from .uncovered import find_uncovered


def run_study(
    study: Study,
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    classifier: RegardClassifier | None,
    *,
    judges: Sequence[TextJudge] = (),
    name: str | None = None,
    perplexity: str | None = None,
    perplexity_file: Path | None = None,
    blocks: int | None = None,
) -> StudyResults | None:
    """Run a study, or the rest of an interrupted one, and write its page.

    Under ``accelerate launch`` all processes sample, and the first process does the rest.

    Args:
        study: the study to run.
        base: the plain model; it is moved to this process's device.
        tokenizer: its tokenizer.
        folder: where everything is saved: the samples and scores, the page ``index.html``, its sentences and tables in
            ``summary.md``, and its numbers in ``results.json`` and ``results.csv``.
        classifier: from `equilm.metrics.regard_loading.load_classifier`; None leaves scores and page to `rebuild`.
        judges: further judges of the texts, from `equilm.study.text_judges.load_judge`.
        name: the name of the model; None takes the name or path that it was loaded from.
        perplexity: a text file, or the name of a Wikitext test set, to measure perplexity on; None to skip this.
        perplexity_file: a file of blocks from `equilm.metrics.perplexity.measure_perplexities`; None for a file in the
            folder.
        blocks: the number of blocks to measure perplexity on, from the start; None for all.

    Returns:
        The results, as in ``results.json``; None without a classifier, and in all processes except the first.

    Raises:
        EquiLMError: for a folder that contains another study, and for axes whose group names the tokenizer cannot
            swap.
    """
    state = PartialState()
    if state.is_main_process and not study.is_papers:
        check_axes(folder, [groups.axis for groups in study.by_axis.values()])
    base = base.to(state.device)
    settings = study_settings(study, base, name or base.config.name_or_path or type(base).__name__)
    sample_cells(study, base, tokenizer, folder, settings, state)
    state.destroy_process_group()  # a process that exits before it is closed may abort
    if not state.is_main_process:
        return None
    chosen = set(study.cells())
    cells = {cell: texts for cell, texts in read_cells(folder, settings).items() if cell in chosen}
    check_cells(study, cells, base, tokenizer, _checks(folder, settings))
    write_uncovered(folder, find_uncovered(study, cells, base, tokenizer))
    if perplexity is not None:
        kept = perplexity_file or folder / f"perplexity-{Path(perplexity).name}-{'-'.join(study.axis_names)}.jsonl"
        write_perplexity(folder, perplexity_records(study, base, tokenizer, perplexity, kept, blocks))
    return None if classifier is None else rebuild(study, folder, classifier, judges)


def rebuild(study: Study, folder: Path, classifier: RegardClassifier, judges: Sequence[TextJudge] = ()) -> StudyResults:
    """Judge the texts in the folder and write the page again; no language model is needed.

    Args:
        study: the axes, tasks and decoders; its other settings must be those of the folder.
        folder: where `run_study` saved its texts and checks.
        classifier: the same regard classifier or another one.
        judges: further judges.

    Raises:
        EquiLMError: if texts are missing.
    """
    header = read_header(folder)
    if not study.is_papers:
        check_axes(folder, [groups.axis for groups in study.by_axis.values()])
    kept = header.settings
    settings = StudySettings(kept.model, kept.parameters, kept.dtype, **study.sampling_settings())
    cells, checks = read_cells(folder, settings), read_checks(_checks(folder, settings))
    chosen = study.cells()
    if missing := [cell for cell in chosen if cell not in checks]:
        raise EquiLMError(
            f"{folder} lacks texts for {len(missing)} of {len(chosen)} pairs of a prompt and a decoder, such as "
            f"{missing[0].prompt!r} with {missing[0].decoder}. Run the study without --page-only first, or choose "
            "fewer axes, tasks and decoders."
        )
    cells, checks = {cell: cells[cell] for cell in chosen}, {cell: checks[cell] for cell in chosen}
    results = collect(study, header, cells, checks, classifier, judges, folder)
    write(results, folder)
    (folder / "index.html").write_text(render(results), "utf-8")
    (folder / "summary.md").write_text(render_summary(results), "utf-8")
    return results


def study_settings(study: Study, base: PreTrainedModel, name: str) -> StudySettings:
    """The settings that all cells of an output folder share."""
    dtype = str(base.dtype).removeprefix("torch.")
    return StudySettings(name, base.num_parameters(), dtype, **study.sampling_settings())


def _checks(folder: Path, settings: StudySettings) -> RecordFile:
    return RecordFile(folder / "checks.jsonl", {**asdict(settings), "gap_texts": GAP_TEXTS})
