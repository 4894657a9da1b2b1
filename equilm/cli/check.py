"""`equilm check`: a gate for CI. Exit code 0: the model passes; 1: it fails; 2: that could not be told."""

import argparse
import os
from typing import Any, cast

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ..auto import AutoEquiLM
from ..configuration_equilm import EquiLMConfig
from ..errors import EquiLMError
from ..loading import saved_config, wrapped_already
from ..metrics.gate import Kind, check_prompts
from ..metrics.gate_result import GateResult, Thresholds
from ..metrics.gate_server_result import AnswerThresholds
from ..metrics.group_fairness import own_action
from ..modeling_equilm import EquiLMForCausalLM
from ..modeling_equilm_classification import EquiLMForSequenceClassification
from ..modeling_equilm_image_text import EquiLMForImageTextToText
from ..modeling_equilm_masked import EquiLMForMaskedLM
from ..modeling_equilm_seq2seq import EquiLMForSeq2SeqLM
from ..text.action import TextAction
from .check_output import Result, summary, write_json, write_junit
from .models import load_model, torch_device
from .parser import CHECK_DEFAULTS, CHECK_SERVER_DEFAULTS, read_prompts

_EXIT_CODES = {"pass": 0, "fail": 1, "unknown": 2}
_KINDS: dict[type[Any], Kind] = {
    EquiLMForCausalLM: "causal",
    EquiLMForImageTextToText: "causal",  # on prompts without pictures
    EquiLMForSeq2SeqLM: "encoder-decoder",
    EquiLMForMaskedLM: "masked",
    EquiLMForSequenceClassification: "classifier",
}


def run(arguments: argparse.Namespace) -> int:
    """Run `equilm check` and return the exit code.

    Raises:
        EquiLMError: if the check cannot be made, for instance for axes that the model was not wrapped with, or for a
            model that cannot be loaded.
    """
    prompts = read_prompts(arguments)
    _refuse_foreign_options(arguments)
    beside: Result | None = None
    judged: Result
    if arguments.server is not None:
        action = TextAction(arguments.axis or ["gender"])
        judged, axes = _check_server(arguments, action, prompts), action.axes
    else:
        judged, beside, axes = _check_model(arguments, prompts)
    print(summary(judged, beside, axes))
    if arguments.json is not None:
        write_json(judged, beside, axes, arguments.json)
    if arguments.junit is not None:
        write_junit(judged, arguments.junit)
    return _EXIT_CODES[judged.outcome]


def _refuse_foreign_options(arguments: argparse.Namespace) -> None:
    """Options that would change nothing are refused: `--max-gap` for a server, say, or `--chat` for a model."""
    of_server = arguments.server is not None
    foreign = CHECK_DEFAULTS if of_server else CHECK_SERVER_DEFAULTS
    given = [name for name in foreign if name in arguments]
    if of_server:
        given += [name for name, default in (("model", None), ("device", "cpu"), ("dtype", "float32"))
                  if getattr(arguments, name) != default]  # fmt: skip
    if given:
        names = ", ".join("--" + name.replace("_", "-") for name in given)
        where = "are for a model, not for a --server" if of_server else "need --server"
        raise EquiLMError(f"{names}: these options {where}. Leave them out.")


def _check_model(arguments: argparse.Namespace, prompts: list[str]) -> tuple[GateResult, GateResult, Any]:
    """The results of the judged model and of the one beside it, and the axes."""
    settings = CHECK_DEFAULTS | vars(arguments)
    limits = Thresholds(gap=settings["max_gap"], parity=settings["max_parity"], coverage=settings["min_coverage"])
    model, tokenizer, saved_wrapped = load_checked(arguments)
    action, kind = own_action(model, tokenizer), _KINDS[type(model)]
    name = arguments.model or "the offline model"

    def check(checked: PreTrainedModel, label: str) -> GateResult:
        return check_prompts(
            checked,
            tokenizer,
            action,
            prompts,
            name=f"{name}, {label}",
            kind=kind,
            thresholds=limits,
            num_continuations=settings.get("num_continuations", 4),
            max_new_tokens=arguments.max_new_tokens,
            seed=arguments.seed,
            progress=not arguments.quiet,
        )

    fair, plain = check(model, "wrapped"), check(model.language_model, "plain")
    judged, beside = (fair, plain) if saved_wrapped or settings["wrap"] else (plain, fair)
    return judged, beside, action.axes


def load_checked(arguments: argparse.Namespace) -> tuple[Any, PreTrainedTokenizerBase, bool]:
    """The wrapped model of any kind for ``--model`` and ``--axis``, its tokenizer, and whether it was saved wrapped.

    Raises:
        EquiLMError: for a device that this machine does not have, a model without a tokenizer, axes for a model that
            has its own, and a model of a kind that cannot be checked.
    """
    device, dtype, name = torch_device(arguments.device), getattr(torch, arguments.dtype), arguments.model
    saved_wrapped = False
    if name is None:
        base, tokenizer = load_model(arguments)
        model: Any = EquiLMForCausalLM.from_base(base, tokenizer, axes=arguments.axis or ["gender"])
    else:
        config, tokenizer = saved_config(name), _tokenizer(name)
        saved_wrapped = isinstance(config, EquiLMConfig)
        if not saved_wrapped:
            model = AutoEquiLM.from_base(name, tokenizer, axes=arguments.axis or ["gender"])
        elif arguments.axis:
            raise wrapped_already(name)
        else:
            model = _class_of(config).from_pretrained(name)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.to(device=device, dtype=dtype).eval(), tokenizer, saved_wrapped


def _class_of(config: Any) -> Any:
    names = {kind.__name__: kind for kind in _KINDS}
    named = (config.architectures or [EquiLMForCausalLM.__name__])[0]
    if named not in names:
        raise EquiLMError(f"The saved model is of the class {named}: expected one of {', '.join(names)}.")
    return names[named]


def _tokenizer(name: str) -> PreTrainedTokenizerBase:
    try:
        return cast(PreTrainedTokenizerBase, AutoTokenizer.from_pretrained(name))
    except (OSError, ValueError) as error:
        raise EquiLMError(
            f"{name!r} has no tokenizer that can be loaded, so its words cannot be told. Save the model's tokenizer "
            "beside it: tokenizer.save_pretrained(folder)."
        ) from error


def _check_server(arguments: argparse.Namespace, action: TextAction, prompts: list[str]) -> Result:
    try:
        from ..metrics.gate_client import Server
        from ..metrics.gate_server import check_server
    except ModuleNotFoundError as error:
        raise EquiLMError(f"equilm check --server needs {error.name}. Run: pip install 'equilm[serve]'") from error

    settings = CHECK_SERVER_DEFAULTS | vars(arguments)
    variable = settings["api_key_env"]
    if variable is not None and not os.environ.get(variable):
        raise EquiLMError(f"The environment variable {variable!r}, which --api-key-env names, is not set. Set it.")
    server = Server(
        arguments.server,
        model=settings["server_model"],
        api_key=None if variable is None else os.environ[variable],
        chat=settings["chat"],
        max_tokens=arguments.max_new_tokens,
        temperature=settings["temperature"],
        timeout=settings["timeout"],
        concurrency=settings["concurrency"],
    )
    return check_server(
        server,
        action,
        prompts,
        thresholds=AnswerThresholds(settings["max_difference"], settings["significance"]),
        num_answers=settings.get("num_continuations", 200),
        seed=arguments.seed,
        progress=not arguments.quiet,
    )
