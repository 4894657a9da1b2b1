"""Sharing rows changes no result, and the base model runs each distinct row once."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from models import ARCHITECTURES, AXES, random_ids, tiny_model, wrap
from transformers import PreTrainedModel

from equilm import EquiLMError
from equilm._compat import CACHE
from equilm.metrics.shared_rows import share_rows


def family(base: PreTrainedModel) -> dict[str, PreTrainedModel]:
    """Plain, EquiLM and R-EquiLM of several axes around one base."""
    fair = {name: wrap(base, cycles, [10, 30], relaxed) for name, cycles in AXES.items() for relaxed in (False, True)}
    return {"plain": base, **fair}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[PreTrainedModel], list[int]]:
    """Notes the number of rows of each forward pass of a model's decoder."""

    def watch(base: PreTrainedModel) -> list[int]:
        passes: list[int] = []
        decoder: Any = base.get_decoder()
        forward = decoder.forward

        def count(input_ids: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            passes.append(len(input_ids))
            return forward(input_ids, *args, **kwargs)

        monkeypatch.setattr(decoder, "forward", count)
        return passes

    return watch


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_logits_are_those_of_each_model_alone(architecture: str) -> None:
    base = tiny_model(architecture, dtype=torch.float64)
    models = family(base)
    texts = [random_ids(2, 9, seed) for seed in range(2)]
    alone = [{name: model(input_ids=ids, use_cache=False).logits for name, model in models.items()} for ids in texts]
    with share_rows(base) as rows:
        for ids, expected in zip(texts, alone, strict=True):
            rows.clear()
            for name, model in models.items():
                torch.testing.assert_close(model(input_ids=ids, use_cache=False).logits, expected[name], msg=name)
    assert rows.served > 0


@torch.no_grad()
def test_runs_each_distinct_row_once(counted: Callable[[PreTrainedModel], list[int]]) -> None:
    base = tiny_model("llama")
    models = [base, wrap(base, AXES["d2"]), wrap(base, AXES["d2"], relaxed=True), wrap(base, AXES["d3"])]
    ids = torch.tensor([[3, 10, 5, 14]])
    passes = counted(base)
    with share_rows(base) as rows:
        for model in models:
            model(input_ids=ids, use_cache=False)
        assert (rows.run, rows.served) == (3, 5)  # for d = 2, 3 10 5 14 and 3 11 5 15; d = 3 adds 3 12 5 13
        assert sum(passes) == rows.run
        base(input_ids=torch.tensor([[3, 10, 5, 14], [3, 4, 5, 6]]), use_cache=False)
        assert passes[-1] == 1  # of a batch only what is new
        rows.clear()
        base(input_ids=ids, use_cache=False)
        assert passes[-1] == 1 and sum(passes) == rows.run == 5
    base(input_ids=ids, use_cache=False)
    assert rows.run == 5 and sum(passes) == 6  # over: nothing is remembered


@torch.no_grad()
def test_projects_the_unpermuted_rows_once_and_hands_out_copies() -> None:
    base = tiny_model("llama")
    ids = torch.tensor([[3, 4, 5]])  # no word of any axis: one row for all models
    expected = base(input_ids=ids, use_cache=False).logits
    with share_rows(base):
        base(input_ids=ids, use_cache=False).logits.zero_()
        wrap(base)(input_ids=ids, use_cache=False)  # averages the logits of he and she in place
        assert torch.equal(base(input_ids=ids, use_cache=False).logits, expected)


@torch.no_grad()
def test_tells_masks_positions_and_settings_apart() -> None:
    base = tiny_model("gpt2")
    ids = torch.tensor([[3, 4, 5, 6]])
    variants: list[dict[str, Any]] = [
        {},
        {"attention_mask": torch.tensor([[0, 1, 1, 1]])},
        {"position_ids": torch.tensor([[4, 5, 6, 7]])},
        {"token_type_ids": torch.tensor([[7, 7, 7, 7]])},
        {"output_hidden_states": True},
    ]
    alone = [base(input_ids=ids, use_cache=False, **variant) for variant in variants]
    with share_rows(base) as rows:
        for variant, expected in zip(variants, alone, strict=True):
            outputs = base(input_ids=ids, use_cache=False, **variant)
            torch.testing.assert_close(outputs.logits, expected.logits)
            assert set(outputs) == set(expected)
        assert rows.served == 0


def test_other_calls_run_as_always() -> None:
    base = tiny_model("llama")
    ids = random_ids(2, 5)
    with torch.no_grad():
        expected = base.generate(ids, do_sample=False, max_new_tokens=8)  # type: ignore[operator]
    with share_rows(base) as rows:
        assert torch.equal(base.generate(ids, do_sample=False, max_new_tokens=8), expected)  # type: ignore[operator]
        with torch.no_grad():
            assert base(input_ids=ids)[CACHE].get_seq_length() == 5
        base(input_ids=ids, use_cache=False).logits.sum().backward()
        base.train()
        with torch.no_grad():
            base(input_ids=ids, use_cache=False)
        assert (rows.run, rows.served) == (0, 0)
    assert base.get_input_embeddings().weight.grad is not None


def test_refuses_an_equilm() -> None:
    with (
        pytest.raises(EquiLMError, match=r"share_rows takes the base model .*: pass model.language_model"),
        share_rows(wrap(tiny_model())),
    ):
        pass
