"""Tables 2, 7 and 8 of the paper: compositional generalization on SCAN, from pretraining to the test accuracies.

    python examples/scan/run.py --cell lstm --model plain --model equi   # Table 2 without the G-LSTM, under an hour
    python examples/scan/run.py                                          # all cells and models
    python examples/scan/run.py --task add_jump --cell gru --seeds 0 --workers 1
    python examples/scan/run.py --development --seeds 0 --cell lstm              # to choose settings: development.py

"plain" trains a model from scratch. "equi" equi-tunes the plain model of the same task, cell and seed, which is trained
first if it is missing. "group" trains Gordon et al.'s (2020) equivariant model from scratch. Every finished run leaves
a JSON file in its folder and is not repeated; an interrupted run continues from its last checkpoint. The tables are
also written to tables.md, and all runs to results.jsonl.
"""

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from development import development_split
from recipes import EQUI_TUNING, GROUP_TRAINING, PRETRAINING, PRETRAINING_DROPOUT
from tqdm.auto import tqdm

from equilm.scan import (
    EquiScanSeq2Seq,
    GroupScanSeq2Seq,
    Recipe,
    ScanConfig,
    ScanPreTrainedModel,
    ScanSeq2Seq,
    fit,
    load_split,
    validation_split,
)
from equilm.scan.training import check_seed

TASKS = ("add_jump", "around_right")
TABLES = {"lstm": 2, "rnn": 7, "gru": 8}
RECIPES = {"plain": PRETRAINING, "group": GROUP_TRAINING, "equi": EQUI_TUNING}
GROUPS: dict[str, dict[str, Any]] = {
    "group": {"add_jump": "verb", "around_right": "direction"},
    "equi": {"add_jump": "jump_run", "around_right": "direction"},  # paper, section 5.2
}
# Validation and test accuracy of the paper's Table 2, in %. Its tables 7 and 8 are in an appendix we do not have.
PAPER = {
    ("add_jump", "plain", "lstm"): ("99.1 (0.3)", "0.0 (0.0)"),
    ("add_jump", "group", "lstm"): ("99.4 (0.8)", "98.3 (1.4)"),
    ("add_jump", "equi", "lstm"): ("98.9 (0.7)", "97.9 (1.0)"),
    ("around_right", "plain", "lstm"): ("98.9 (0.7)", "0.4 (0.7)"),
    ("around_right", "group", "lstm"): ("98.4 (0.6)", "89.6 (1.9)"),
    ("around_right", "equi", "lstm"): ("99.8 (0.2)", "95.7 (3.6)"),
}
PAPER_SENTENCES = {"plain": 200_000, "group": 200_000, "equi": 10_000}


@dataclass(frozen=True)
class Run:
    """One model to train and test."""

    task: str
    cell: str
    model: str
    seed: int
    output: Path
    development: bool = False

    @property
    def folder(self) -> Path:
        return self.output / self.task / f"{self.model}-{self.cell}" / f"seed{self.seed}"

    @property
    def finished(self) -> bool:
        return (self.folder / "result.json").exists()

    @property
    def result(self) -> dict[str, Any]:
        """The results of the finished run."""
        return json.loads((self.folder / "result.json").read_text("utf-8"))

    @property
    def name(self) -> str:
        return {"plain": "", "group": "G-", "equi": "Equi"}[self.model] + self.cell.upper()


def build(run: Run) -> ScanPreTrainedModel:
    """The model before its training."""
    if run.model == "plain":
        return ScanSeq2Seq(cell=run.cell, dropout=PRETRAINING_DROPOUT)
    group = GROUPS[run.model][run.task]
    if run.model == "group":
        return GroupScanSeq2Seq(cell=run.cell, group=group)
    pretrained = Run(run.task, run.cell, "plain", run.seed, run.output, run.development)
    # With the model's usual dropout again: 10,000 sentences are few.
    base = ScanSeq2Seq.from_pretrained(pretrained.folder, dropout=ScanConfig.dropout)
    return EquiScanSeq2Seq.from_base(base, group)


def execute(run: Run, recipe: Recipe) -> None:
    """Train, validate and test; writes the run's JSON file."""
    run.folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with (run.folder / "log.txt").open("a", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
        split = development_split(run.task) if run.development else load_split(run.task)  # type: ignore[arg-type]
        train, validation = validation_split(split["train"], run.seed)
        torch.manual_seed(run.seed)
        model = build(run)
        trainer = fit(model, train, validation, recipe, run.folder, run.seed, disable_tqdm=True)
        result = {
            "validation": trainer.state.best_metric,
            "test": model.exact_match(list(split["test"])),
            "sentences": trainer.sentences_seen,
            "seconds": round(time.perf_counter() - start, 1),
        }
    (run.folder / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def execute_chain(chain: list[Run], recipes: dict[str, Recipe]) -> None:
    """Execute runs that each need the one before, in their own process."""
    torch.set_num_threads(1)  # the models are small, and other cores execute other runs
    for run in chain:
        if not run.finished:
            execute(run, recipes[run.model])


def chains(arguments: argparse.Namespace) -> Iterator[list[Run]]:
    """The requested runs: those of a chain run one after the other, and the chains in parallel."""

    def run(*key: Any) -> Run:
        return Run(*key, arguments.output, arguments.development)

    for seed in arguments.seeds:  # first, so that every row has one result early
        for cell in arguments.cell or TABLES:
            for task in arguments.task or TASKS:
                wanted = set(arguments.model or RECIPES)
                if wanted & {"plain", "equi"}:
                    models = ("plain", "equi") if "equi" in wanted else ("plain",)
                    yield [run(task, cell, model, seed) for model in models]
                if "group" in wanted:
                    yield [run(task, cell, "group", seed)]


def percent(values: Iterable[float]) -> str:
    """Mean and sample standard deviation of shares, in %."""
    shares = [100 * value for value in values]
    return f"{statistics.mean(shares):.1f}" + (f" ({statistics.stdev(shares):.1f})" if len(shares) > 1 else "")


def tables(runs: list[Run]) -> str:
    """A Markdown table of the finished runs for each cell, as in the paper."""
    lines: list[str] = []
    heads = ["task", "group", "model", "validation", "paper", "test", "paper", "seeds", "sentences", "paper", "minutes"]
    for cell in dict.fromkeys(run.cell for run in runs):
        lines += [f"Table {TABLES[cell]}, {cell.upper()}:", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        of_cell = [run for run in runs if run.cell == cell]
        for task, model in dict.fromkeys((run.task, run.model) for run in of_cell):
            same = [run for run in of_cell if (run.task, run.model) == (task, model)]
            results = [run.result for run in same]
            # The development splits are ours.
            validation, test = ("", "") if same[0].development else PAPER.get((task, model, cell), ("", ""))
            cells = [
                task,
                GROUPS[model][task] if model in GROUPS else "",
                same[0].name,
                percent(result["validation"] for result in results),
                validation,
                percent(result["test"] for result in results),
                test,
                str(len(results)),
                f"{results[0]['sentences']:,}",
                f"{PAPER_SENTENCES[model]:,}",
                f"{statistics.mean(result['seconds'] for result in results) / 60:.1f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Execute the runs that are missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", action="append", choices=TASKS, help="one or several; by default both")
    parser.add_argument("--cell", action="append", choices=list(TABLES), help="one or several; by default all")
    parser.add_argument("--model", action="append", choices=list(RECIPES), help="one or several; by default all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--sentences", type=int, help="train on only so many sentences, to try the script")
    parser.add_argument(
        "--development", action="store_true", help="on splits of the training pairs, to choose settings"
    )
    parser.add_argument("--table", action="store_true", help="train nothing, and show the finished runs")
    parser.add_argument("--output", type=Path, default=Path("scan-runs"), help="for results and checkpoints")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        check_seed(seed)
    if arguments.development:
        arguments.output /= "development"

    recipes = {
        name: recipe if arguments.sentences is None else Recipe(arguments.sentences, recipe.batch_size, 1e-3)
        for name, recipe in RECIPES.items()
    }
    planned = list(chains(arguments))
    start = time.perf_counter()
    if not arguments.table:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(arguments.workers, mp_context=spawn) as pool:
            jobs = [pool.submit(execute_chain, chain, recipes) for chain in planned]
            for job in tqdm(as_completed(jobs), total=len(jobs), desc="Runs", unit="run"):
                job.result()
        minutes = (time.perf_counter() - start) / 60
        print(f"{minutes:.1f} minutes, {arguments.workers} workers; runs in {arguments.output}")
    finished = [run for chain in planned for run in chain if run.finished]
    table = tables(finished)
    (arguments.output / "tables.md").write_text(table, encoding="utf-8")
    lines = [json.dumps({"task": run.task, "model": run.name, "seed": run.seed, **run.result}) for run in finished]
    (arguments.output / "results.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    hours = sum(run.result["seconds"] for run in finished) / 3600
    print(f"Accuracies in %, mean (standard deviation) over the seeds; the paper's beside ours.\n\n{table}")
    print(f"{len(finished)} runs, together {hours:.2f} hours of one core.")


if __name__ == "__main__":
    main()
