"""transformers' own tests of models and of generation, run on wrapped models.

    python examples/conformance/mixins.py SOURCE...                 # all models
    python examples/conformance/mixins.py SOURCE... --only llama
    python examples/conformance/mixins.py --page                    # write the page from the results alone

SOURCE is a folder of transformers' source with its `tests`: a checkout of github.com/huggingface/transformers. The
releases on PyPI hold only a part of the tests; of several folders each file is taken from the first that has it. Needs
`parameterized`. What came of each test is a line of JSON: passed, skipped, refused with equilm's words, failed on the
base model as well, another by design, or failed; `docs/conformance_mixins.md` shows them all but the first two.
"""

import argparse
import importlib
import json
import os
import sys
import types
import unittest
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from page import plain_text
from tqdm.auto import tqdm
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)

from equilm import EquiLMConfig, EquiLMError, EquiLMForCausalLM

PAGE = Path(__file__).parents[2] / "docs" / "conformance_mixins.md"
CYCLE = [10, 11, 12]
_SIZES: dict[str, Any] = {"vocab_size": 99, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_LAYERS: dict[str, Any] = {
    **_SIZES,
    "hidden_size": 32,
    "intermediate_size": 37,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
# The class of each model, and its configuration.
MODELS: dict[str, tuple[type[PreTrainedModel], type[PreTrainedConfig], dict[str, Any]]] = {
    "gpt2": (
        GPT2LMHeadModel,
        GPT2Config,
        {**_SIZES, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "attn_pdrop": 0.0},
    ),
    "llama": (LlamaForCausalLM, LlamaConfig, _LAYERS),
    "mistral": (MistralForCausalLM, MistralConfig, {**_LAYERS, "sliding_window": 4}),
    "gemma3_text": (Gemma3ForCausalLM, Gemma3TextConfig, {**_LAYERS, "head_dim": 8, "sliding_window": 4}),
}


# What a wrapped model does otherwise than these tests expect, and must.
BY_DESIGN = {
    "test_generate_with_static_cache": "the cache has |G| rows for each text",
    "test_past_key_values_format": "the cache has a row for each distinct permuted text",
    "test_retain_grad_hidden_states_attentions": (
        "the states that are returned are picked from the rows of all permuted texts, so the logits do not come from "
        "them; their values and gradients of the logits are right"
    ),
}


@dataclass
class Outcome:
    """What came of one test.

    Args:
        model: a key of `MODELS`.
        test: its name.
        verdict: "passed", "skipped", "refused", "as its base", "by design" or "failed".
        words: the error.
    """

    model: str
    test: str
    verdict: str
    words: str = ""


def find_tests(sources: list[Path]) -> None:
    """Make the package `tests` that of these folders, the first before the others."""
    tests = types.ModuleType("tests")
    tests.__path__ = [str(source.resolve() / "tests") for source in sources]
    sys.modules["tests"] = tests
    # The common tests derive from those of exports too, which are not run here and in no package.
    exports: Any = types.ModuleType("tests.exporters.test_export")
    exports.ExportTesterMixin = type("ExportTesterMixin", (), {})
    sys.modules |= {"tests.exporters": types.ModuleType("tests.exporters"), exports.__name__: exports}


class ModelTester:
    """What the mixins ask of a model: its sizes, its configuration and inputs.

    Args:
        model: a key of `MODELS`.
        wrapped: whether it is wrapped.
    """

    batch_size, seq_length, is_training = 3, 7, True
    vocab_size, hidden_size, num_hidden_layers, num_attention_heads, num_key_value_heads = 99, 32, 2, 4, 2

    def __init__(self, model: str, wrapped: bool):
        self.model, self.wrapped = model, wrapped

    def get_config(self) -> PreTrainedConfig:
        """A configuration of its own for each test."""
        _, config_class, sizes = MODELS[self.model]
        config = config_class(**sizes)
        return EquiLMConfig(text_config=config, cycles=[[CYCLE]]) if self.wrapped else config

    def prepare_config_and_inputs_for_common(self) -> tuple[PreTrainedConfig, dict[str, torch.Tensor]]:
        """Random texts, of which some hold words of the list."""
        ids = torch.randint(3, self.vocab_size, (self.batch_size, self.seq_length))
        ids[:, 2] = torch.tensor([10, 11, 30])
        return self.get_config(), {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def test_case(model: str, wrapped: bool) -> type[unittest.TestCase]:
    """A test case of both mixins for a model, wrapped or as it is."""
    common = importlib.import_module("tests.test_modeling_common")
    generation = importlib.import_module("tests.generation.test_utils")

    class Case(common.ModelTesterMixin, generation.GenerationTesterMixin, unittest.TestCase):  # type: ignore[name-defined, misc]
        all_model_classes = (EquiLMForCausalLM if wrapped else MODELS[model][0],)

        def setUp(self) -> None:
            self.model_tester = ModelTester(model, wrapped)

        def _prepare_for_class(self, inputs_dict: Any, model_class: Any, return_labels: bool = False) -> Any:
            # The mixin knows by the names of transformers' own classes which of them take labels.
            inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels=return_labels)
            return {**inputs, "labels": torch.zeros_like(inputs["input_ids"])} if return_labels else inputs

    return Case


def names(case: type[unittest.TestCase]) -> list[str]:
    """The names of its tests."""
    return unittest.defaultTestLoader.getTestCaseNames(case)  # type: ignore[return-value]


def run_test(case: type[unittest.TestCase], name: str) -> tuple[str, BaseException | None]:
    """Run one test: "passed", "skipped" or "failed", and the first error."""
    errors: list[BaseException] = []

    class Collected(unittest.TestResult):
        def addError(self, test: Any, error: Any) -> None:
            errors.append(error[1])
            super().addError(test, error)

        def addFailure(self, test: Any, error: Any) -> None:
            errors.append(error[1])
            super().addFailure(test, error)

        def addSubTest(self, test: Any, subtest: Any, error: Any) -> None:
            if error is not None:
                errors.append(error[1])
            super().addSubTest(test, subtest, error)

    result = Collected()
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        case(name).run(result)
    if errors:
        return "failed", errors[0]
    return ("skipped" if result.skipped else "passed"), None


def refusal(error: BaseException | None) -> EquiLMError | None:
    """The refusal that an error is, or that it was raised because of."""
    while error is not None:
        if isinstance(error, EquiLMError):
            return error
        error = error.__cause__ or error.__context__
    return None


def outcomes(model: str) -> Iterator[Outcome]:
    """Every test of the mixins on one wrapped model."""
    case, base = test_case(model, wrapped=True), test_case(model, wrapped=False)
    for name in tqdm(names(case), desc=model):
        verdict, error = run_test(case, name)
        words = "" if error is None else f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
        if verdict == "failed":
            if (refused := refusal(error)) is not None:
                verdict, words = "refused", " ".join(str(refused).split())
            elif name in BY_DESIGN:
                verdict, words = "by design", BY_DESIGN[name]
            elif run_test(base, name)[0] == "failed":
                verdict = "as its base"
        yield Outcome(model, name, verdict, words)


def main() -> None:
    """Run the tests, and write down what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, nargs="*", help="a folder with transformers' tests")
    parser.add_argument("--only", action="append", choices=MODELS, help="one model; may be given several times")
    parser.add_argument("--results", type=Path, default=Path("build/conformance"), help="where lines of JSON go")
    parser.add_argument("--page", action="store_true", help="only write the page, from earlier results")
    args = parser.parse_args()
    if not args.page:
        run(args.source, args.only or list(MODELS), args.results)
    outcomes = {
        model: [Outcome(**json.loads(line)) for line in _file(args.results, model).read_text("utf-8").splitlines()]
        for model in MODELS
    }
    PAGE.write_text(page(outcomes), "utf-8")


def run(sources: list[Path], models: list[str], results: Path) -> None:
    """Run the tests of these models; each outcome is written as soon as it is there."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    find_tests(sources)
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    results.mkdir(parents=True, exist_ok=True)
    for model in models:
        with _file(results, model).open("w", encoding="utf-8") as file:
            for outcome in outcomes(model):
                file.write(json.dumps(asdict(outcome)) + "\n")
                file.flush()


def _file(results: Path, model: str) -> Path:
    return results / f"mixins_{model}.jsonl"


def page(found: Mapping[str, list[Outcome]]) -> str:
    """The outcomes as a page of the documentation."""
    parts = [_INTRODUCTION.format(version=transformers.__version__)]
    parts.append("| | " + " | ".join(f"`{model}`" for model in found) + " |\n|---|" + "---:|" * len(found))
    for verdict in ("passed", "refused", "by design", "as its base", "failed", "skipped"):
        counts = [sum(outcome.verdict == verdict for outcome in outcomes) for outcomes in found.values()]
        parts.append(f"| {verdict} | " + " | ".join(map(str, counts)) + " |")
    parts.append("\n| test | | models | |\n|---|---|---|---|")
    told: dict[tuple[str, str, str], list[str]] = {}
    for model, outcomes in found.items():
        for outcome in outcomes:
            if outcome.verdict not in ("passed", "skipped"):
                told.setdefault((outcome.verdict, outcome.test, plain_text(outcome.words)), []).append(model)
    for (verdict, test, words), models in sorted(told.items()):
        names = "all" if len(models) == len(found) else ", ".join(models)
        parts.append(f"| `{test}` | {verdict} | {names} | {words} |")
    return "\n".join(parts) + "\n"


_INTRODUCTION = """# transformers' own tests

Made by `python examples/conformance/mixins.py` with transformers {version}: do not edit.

transformers tests its models with two classes of common tests, `ModelTesterMixin` and `GenerationTesterMixin`. Here
they run on wrapped models: GPT-2, Llama, Mistral with a window of 4 tokens, and the text model of Gemma 3, tiny and
with random weights. *Refused* means that an `EquiLMError` says what cannot be fair; *by design*, that a wrapped model
must do otherwise than the test expects; *as its base*, that the plain model fails the same test here. Tests are skipped
where transformers skips them.
"""


if __name__ == "__main__":
    main()
