"""`equilm generate`: continues prompts, or answers about pictures, fairly, plainly, or both for comparison."""

import argparse
import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TextIO

from tqdm.auto import tqdm
from transformers import AutoModelForImageTextToText, AutoProcessor, ProcessorMixin, set_seed

from ..errors import EquiLMError
from ..loading import wrapped_already
from ..modeling_equilm import EquiLMForCausalLM
from ..modeling_equilm_image_text import EquiLMForImageTextToText
from ..text.image_prompts import image_inputs, open_image
from .models import load_fair, load_model
from .parser import read_prompts

# The texts that a model gives for a batch of prompts.
Texts = Callable[[list[str]], list[str]]


def run(arguments: argparse.Namespace) -> None:
    """Run `equilm generate`.

    Raises:
        EquiLMError: for arguments that the model refuses, and for pictures that cannot be read or that the model does
            not take.
    """
    _check_sampler(arguments)
    prompts = read_prompts(arguments)
    model, texts = _about_images(arguments) if arguments.image else _of_text(arguments)
    with arguments.output.open("w", encoding="utf-8") if arguments.output else nullcontext(sys.stdout) as out:
        if arguments.report:
            with model.plain() if arguments.plain else nullcontext():
                print(model.fairness_report(), end="\n\n", file=sys.stderr if arguments.jsonl else out)
        _continue(model, texts, prompts, arguments, out)


def _of_text(arguments: argparse.Namespace) -> tuple[EquiLMForCausalLM, Texts]:
    """A fair model, and how it continues texts."""
    model, tokenizer = load_fair(arguments, relaxed=arguments.relaxed)

    def texts(prompts: list[str]) -> list[str]:
        inputs = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left").to(model.device)
        ids = _generate(model, inputs, arguments)
        return list(map(str, tokenizer.batch_decode(ids, skip_special_tokens=True)))

    return model, texts


def _about_images(arguments: argparse.Namespace) -> tuple[EquiLMForCausalLM, Texts]:
    """A fair model that reads pictures, and how it answers about those of the command."""
    images = [open_image(source) for source in arguments.image]
    if arguments.model is None:
        raise EquiLMError("--image needs a model that reads pictures: name one with --model.")
    processor = AutoProcessor.from_pretrained(arguments.model)
    if not isinstance(processor, ProcessorMixin):
        raise EquiLMError(
            f"--image needs a model that reads pictures, but {arguments.model!r} is one of text alone: it has a "
            f"{type(processor).__name__} and no processor. Leave out --image, or name another model."
        )
    base, tokenizer = load_model(arguments, AutoModelForImageTextToText)
    processor.tokenizer.pad_token = tokenizer.pad_token
    if not isinstance(base, EquiLMForImageTextToText):
        axes = arguments.axis or ["gender"]
        model = EquiLMForImageTextToText.from_base(base, processor, axes=axes, relaxed=arguments.relaxed)
    elif arguments.axis or arguments.relaxed:
        raise wrapped_already(arguments.model)
    else:
        model = base

    def texts(prompts: list[str]) -> list[str]:
        inputs = image_inputs(processor, prompts, images).to(model.device, dtype=model.dtype)
        ids = _generate(model, inputs, arguments)[:, inputs["input_ids"].shape[1] :]
        return [str(text).strip() for text in processor.batch_decode(ids, skip_special_tokens=True)]

    return model, texts


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
    model: EquiLMForCausalLM, texts: Texts, prompts: list[str], arguments: argparse.Namespace, out: TextIO
) -> None:
    size = arguments.batch_size
    batches = [prompts[start : start + size] for start in range(0, len(prompts), size)]
    mixed = arguments.output is None and sys.stdout.isatty()  # the texts and the bar would share the terminal
    hidden = arguments.quiet or mixed or len(batches) == 1
    images = {"images": arguments.image} if arguments.image else {}
    for batch in tqdm(batches, desc="Generating", unit="batch", disable=hidden):
        fair = None if arguments.plain else texts(batch)
        plain = None
        if arguments.plain or arguments.compare:
            with model.plain():
                plain = texts(batch)
        for place, prompt in enumerate(batch):
            kinds = {"text": fair, "plain": plain} if arguments.compare else {"text": fair or plain}
            found = {kind: values[place] for kind, values in kinds.items() if values is not None}
            if arguments.jsonl:
                print(json.dumps({"prompt": prompt, **images, **found}, ensure_ascii=False), file=out)
            elif arguments.compare:
                print(f" fair | {found['text']}\nplain | {found['plain']}", file=out)
            else:
                print(found["text"], file=out)
        out.flush()


def _generate(model: EquiLMForCausalLM, inputs: Any, arguments: argparse.Namespace) -> Any:
    settings: dict[str, Any] = {"max_new_tokens": arguments.max_new_tokens, "num_beams": arguments.num_beams}
    if arguments.sample:
        sampler = {"temperature": arguments.temperature, "top_k": arguments.top_k, "top_p": arguments.top_p}
        settings |= {"do_sample": True, **sampler}
    set_seed(arguments.seed)  # for each batch, so that texts after swapped prompts are each other's swap
    return model.generate(**inputs, **settings)
