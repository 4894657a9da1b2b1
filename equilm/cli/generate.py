"""`equilm generate`: continues prompts fairly, plainly, or both for comparison."""

import argparse
import json
import sys
from contextlib import nullcontext
from typing import Any, TextIO

from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase, set_seed

from ..errors import EquiLMError
from ..modeling_equilm import EquiLMForCausalLM
from .models import load_fair
from .parser import read_prompts


def run(arguments: argparse.Namespace) -> None:
    """Run `equilm generate`.

    Raises:
        EquiLMError: for arguments that the model refuses.
    """
    _check_sampler(arguments)
    prompts = read_prompts(arguments)
    model, tokenizer = load_fair(arguments, relaxed=arguments.relaxed)
    with arguments.output.open("w", encoding="utf-8") if arguments.output else nullcontext(sys.stdout) as out:
        if arguments.report:
            with model.plain() if arguments.plain else nullcontext():
                print(model.fairness_report(), end="\n\n", file=sys.stderr if arguments.jsonl else out)
        _continue(model, tokenizer, prompts, arguments, out)


def _check_sampler(arguments: argparse.Namespace) -> None:
    if arguments.sample:
        return
    for option, value, default in (
        ("--temperature", arguments.temperature, 1),
        ("--top-k", arguments.top_k, 0),
        ("--top-p", arguments.top_p, 1),
    ):
        if value != default:
            raise EquiLMError(f"{option} {value:g} is for sampling: add --sample, or leave {option} out.")


def _continue(
    model: EquiLMForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    arguments: argparse.Namespace,
    out: TextIO,
) -> None:
    size = arguments.batch_size
    batches = [prompts[start : start + size] for start in range(0, len(prompts), size)]
    mixed = arguments.output is None and sys.stdout.isatty()  # the texts and the bar would share the terminal
    hidden = arguments.quiet or mixed or len(batches) == 1
    for batch in tqdm(batches, desc="Generating", unit="batch", disable=hidden):
        fair = None if arguments.plain else _texts(model, tokenizer, batch, arguments)
        plain = None
        if arguments.plain or arguments.compare:
            with model.plain():
                plain = _texts(model, tokenizer, batch, arguments)
        for place, prompt in enumerate(batch):
            kinds = {"text": fair, "plain": plain} if arguments.compare else {"text": fair or plain}
            texts = {kind: values[place] for kind, values in kinds.items() if values is not None}
            if arguments.jsonl:
                print(json.dumps({"prompt": prompt, **texts}, ensure_ascii=False), file=out)
            elif arguments.compare:
                print(f" fair | {texts['text']}\nplain | {texts['plain']}", file=out)
            else:
                print(texts["text"], file=out)
        out.flush()


def _texts(
    model: EquiLMForCausalLM, tokenizer: PreTrainedTokenizerBase, prompts: list[str], arguments: argparse.Namespace
) -> list[str]:
    settings: dict[str, Any] = {"max_new_tokens": arguments.max_new_tokens, "num_beams": arguments.num_beams}
    if arguments.sample:
        sampler = {"temperature": arguments.temperature, "top_k": arguments.top_k, "top_p": arguments.top_p}
        settings |= {"do_sample": True, **sampler}
    set_seed(arguments.seed)  # for each batch, so that texts after swapped prompts are each other's swap
    inputs = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left").to(model.device)
    ids: Any = model.generate(**inputs, **settings)
    return list(map(str, tokenizer.batch_decode(ids, skip_special_tokens=True)))
