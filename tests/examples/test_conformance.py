"""The conformance command: cheap architectures agree with the definition, and what is broken is found."""

import copy
import json
import unittest
from pathlib import Path
from typing import Any

import checks
import mixins
import picture_checks
import pytest
import torch
from definition import average, cyclic_table
from page import write_page
from picture_checks import Case, check_pictures, layouts
from pictures import PICTURE, inputs, random_pictures
from tiny_configs import IMAGE, tiny_config
from torch import Tensor

from equilm import EquiLMError, EquiLMForCausalLM, EquiLMForImageTextToText

RIGHT = [("gpt2", "causal"), ("llama", "causal"), ("jamba", "causal"), ("mamba", "causal"), ("t5", "seq2seq")]


@pytest.mark.parametrize(("name", "mapping"), RIGHT)
def test_right(name: str, mapping: str) -> None:
    result = checks.check(name, mapping)
    assert result.verdict == "right", result
    assert len(result.checks) == 11


# Pictures by picture, as patches with positions of three axes, and by text with cross-attention.
@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "mllama"])
def test_right_with_pictures(name: str) -> None:
    result = check_pictures(name)
    assert result.verdict == "right", result
    assert len(result.checks) == 15


def test_pictures_that_are_lost_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    wrapped: Any = EquiLMForImageTextToText._batch

    def without(self: Any, input_ids: Tensor, arguments: dict[str, Any]) -> Any:
        if arguments.get("pixel_values") is not None:
            arguments["pixel_values"] = torch.ones_like(arguments["pixel_values"])
        return wrapped(self, input_ids, arguments)

    monkeypatch.setattr(EquiLMForImageTextToText, "_batch", without)
    base = checks.build("llava", "image_text")
    cases = {"pictures in front": layouts(base, "llava")["pictures in front"]}
    model = checks.wrap(copy.deepcopy(base), "image_text")
    found = {title: compare() for title, compare, _ in picture_checks.picture_comparisons(base, model, cases)}
    assert found["other pictures, pictures in front"] == float("inf")
    assert found["forward, pictures in front"] > checks.TOLERANCE


def test_inputs_with_pictures() -> None:
    base = checks.build("qwen2_vl", "image_text")
    found = inputs(base, "qwen2_vl", [[20, PICTURE, 21], [PICTURE, 22, PICTURE]], random_pictures(3))
    assert (found["input_ids"] == IMAGE).sum(-1).tolist() == [4, 8], "four tokens for each picture"
    assert found["image_grid_thw"].tolist() == [[1, 4, 4]] * 3 and len(found["pixel_values"]) == 3 * 16
    assert found["attention_mask"].sum(-1).tolist() == [8, 13] and found["attention_mask"][0, 0] == 0


def test_a_model_that_needs_pictures_has_no_texts_alone() -> None:
    base = checks.build("idefics", "image_text")
    assert list(layouts(base, "idefics")) == ["pictures in front"]
    alone = Case(base, "idefics", [[PICTURE, 20], [21, PICTURE, PICTURE]], random_pictures(3)).alone()
    assert [len(case.pictures) for case in alone] == [1, 2]


def test_a_wrong_sum_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def plain(self: Any, logits: Tensor, columns: Tensor, rows: Any, words: Tensor) -> Tensor:
        return logits

    monkeypatch.setattr(EquiLMForCausalLM, "_fix_words", plain)
    result = checks.check("llama", "causal")
    assert result.verdict == "wrong" and "differs by" in result.words


def test_a_refusal_keeps_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(base: Any, mapping: str) -> Any:
        raise EquiLMError("Not this one. Take another.")

    monkeypatch.setattr(checks, "wrap", refuse)
    result = checks.check("llama", "causal")
    assert (result.verdict, result.words) == ("refused", "Not this one. Take another.")


def test_a_base_that_cannot_be_built() -> None:
    assert checks.check("gemma4_unified_assistant", "causal").verdict == "not built"


def test_the_definition_turns_the_right_way() -> None:
    table = cyclic_table(5, [1, 2, 3])
    assert table.tolist() == [[0, 1, 2, 3, 4], [0, 2, 3, 1, 4], [0, 3, 1, 2, 4]]
    # A model that says the token it was asked about: its mean is itself.
    logits = average(table, lambda row: torch.nn.functional.one_hot(row[torch.tensor([[2, 4]])], 5).float())
    assert logits.argmax(-1).tolist() == [[2, 4]] and logits.max() == 1


def test_tiny_configurations_keep_every_kind_of_layer() -> None:
    config = tiny_config("gemma3_text", "causal")
    assert config.layer_types == ["sliding_attention", "full_attention"] and config.hidden_size == 32
    assert tiny_config("bert", "causal").is_decoder


def test_the_page(tmp_path: Path) -> None:
    rows = [{"name": "a", "verdict": "right", "words": "", "checks": {}}]
    rows.append({"name": "b", "verdict": "refused", "words": "It | cannot.\nSo it goes.", "checks": {}})
    write_page(tmp_path / "page.md", {"causal": json.loads(json.dumps(rows))}, "5.24.0")
    text = (tmp_path / "page.md").read_text("utf-8")
    assert "| `b` | refused | It \\| cannot. So it goes. |" in text and "| right | 1 |" in text
    assert text.index("`b`") < text.index("`a`"), "what is not right stands first"
    write_page(tmp_path / "page.md", {"image_text": rows[:1]}, "5.24.0")
    both = (tmp_path / "page.md").read_text("utf-8")
    assert both.startswith(text) and both.endswith("| `a` | right |  |\n"), "a section is added, the others stay"


class Wrapped(unittest.TestCase):
    """Stands for the tests of transformers, on a wrapped model."""

    __test__ = False  # pytest does not run it by itself

    def test_a_pass(self) -> None: ...

    def test_b_skip(self) -> None:
        self.skipTest("not for this model")

    def test_c_refusal(self) -> None:
        try:
            raise EquiLMError("No states.")
        except EquiLMError as error:
            raise AssertionError("an error of the test") from error

    def test_d_failure_of_the_base_too(self) -> None:
        self.fail("both")

    def test_e_failure(self) -> None:
        self.fail("only | wrapped")

    def test_generate_with_static_cache(self) -> None:
        self.fail("more rows")


class Base(Wrapped):
    """The same on the base model."""

    def test_e_failure(self) -> None: ...


def test_what_came_of_transformers_own_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixins, "test_case", lambda model, wrapped: Wrapped if wrapped else Base)
    found = list(mixins.outcomes("gpt2"))
    assert [outcome.verdict for outcome in found] == [
        *("passed", "skipped", "refused", "as its base", "failed", "by design"),
    ]
    assert found[2].words == "No states."
    page = mixins.page({"gpt2": found})
    assert "| failed | 1 |" in page and "only \\| wrapped" in page and "test_a_pass" not in page


def test_no_test_of_transformers_fails_without_a_reason() -> None:
    assert "| failed | 0 | 0 | 0 | 0 |" in mixins.PAGE.read_text("utf-8")
