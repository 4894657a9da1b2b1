"""The self-check finds what is wrong with a model, and leaves alone what is right."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from models import ARCHITECTURES, AXES, tiny_model, wrap
from seq2seq_models import tiny_seq2seq, wrap_seq2seq
from torch import Tensor

import equilm._base_weights as _base_weights
import equilm._modeling_base as modeling_base
import equilm._orbit_rows as _orbit_rows
import equilm.modeling_equilm as modeling_equilm
from equilm import EquiLMError, EquiLMForCausalLM, EquiLMWarning
from equilm._base_arguments import TextBatch
from equilm._orbit_rows import OrbitCache, Rows
from equilm.actions import TokenAction


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_right_model_passes(architecture: str, axes: str, dtype: torch.dtype) -> None:
    checked = wrap(tiny_model(architecture, dtype=dtype), AXES[axes]).self_check()
    assert set(checked.errors) == {"forward", "cached steps"} and not checked.switched_off


@pytest.mark.parametrize("architecture", ["t5", "bart", "m2m100"])
def test_a_right_encoder_decoder_passes(architecture: str) -> None:
    checked = wrap_seq2seq(tiny_seq2seq(architecture), AXES["d3"]).self_check()
    assert set(checked.errors) == {"forward", "cached steps"} and not checked.switched_off


def test_a_relaxed_model_passes() -> None:
    assert not wrap(tiny_model("llama"), AXES["d3"], general_ids=[13, 30], relaxed=True).self_check().switched_off


def test_random_states_and_modes_stay_as_they_are() -> None:
    model = wrap(tiny_model("gpt2"))
    embedding = model.get_input_embeddings()
    model.train()
    embedding.eval()
    state = torch.get_rng_state()
    model.self_check()
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training and not embedding.training


def test_the_report_says_what_was_found() -> None:
    model = wrap(tiny_model("llama"))
    assert "self-check: not run" in str(model.fairness_report())
    model.self_check()
    assert "self-check: passed" in str(model.fairness_report())


def test_weights_that_are_not_there_are_not_checked() -> None:
    base: Any = tiny_model("llama")
    model = wrap(base.to("meta"))
    assert "not run: weights are offloaded" in str(model.self_check())


def test_many_elements_are_checked_with_few_rows() -> None:
    model = wrap(tiny_model("llama"), [[list(range(10, 20))], [[20, 21]]])
    assert not model.self_check().switched_off


# --- Mutations: each breaks one thing, and each is found --------------------------------------------------------------


def _swap_rows_of_the_cache(model: EquiLMForCausalLM, patch: pytest.MonkeyPatch) -> None:
    right = _orbit_rows.adopt

    def wrong(cache: Any, rows: Rows, tokens: int) -> None:
        right(cache, rows, tokens)
        cache.branches = cache.branches.flip(0)

    patch.setattr(modeling_equilm, "adopt", wrong)


def _stale_cache(model: EquiLMForCausalLM, patch: pytest.MonkeyPatch) -> None:
    def wrong(self: OrbitCache, parents: Tensor) -> None:
        kept = torch.zeros_like(parents)  # every row continues the first one
        super(OrbitCache, self).reorder_cache(kept)  # type: ignore[misc]
        self.row_count = len(parents)

    patch.setattr(OrbitCache, "fork", wrong)


def _wrong_branch(model: EquiLMForCausalLM, patch: pytest.MonkeyPatch) -> None:
    right = Rows.mean
    patch.setattr(Rows, "mean", lambda self, per_row: right(self, per_row)[..., :] * 0 + per_row[self.branches[-1]])


def _forward_instead_of_inverse(model: EquiLMForCausalLM, patch: pytest.MonkeyPatch) -> None:
    right = TokenAction.act_on_logits
    patch.setattr(
        modeling_base,
        "reynolds",
        lambda branches, action: (
            sum(right(action.tokens, branches[g], g) for g in action.group.elements) / action.group.order
        ),
    )


def _wrong_positions(model: EquiLMForCausalLM, patch: pytest.MonkeyPatch) -> None:
    right = TextBatch.of_rows

    def wrong(self: TextBatch, copies: Tensor, rows: Rows) -> dict[str, Any]:
        arguments = right(self, copies, rows)
        ids = arguments["input_ids"]
        return arguments | {"position_ids": torch.arange(ids.shape[1]).expand(ids.shape) * 2}

    patch.setattr(TextBatch, "of_rows", wrong)


def _wrong_weights_of_the_mean(model: EquiLMForCausalLM, patch: pytest.MonkeyPatch) -> None:
    def wrong(self: Rows, per_row: Tensor) -> Tensor:
        return torch.stack([per_row[pattern] for pattern in self.patterns]).cumsum(0)[-1] / (len(self.patterns) + 1)

    patch.setattr(Rows, "mean", wrong)


def _wrong_columns(model: EquiLMForCausalLM, patch: pytest.MonkeyPatch) -> None:
    right = _base_weights.project_columns
    patch.setattr(modeling_base, "project_columns", lambda head, hidden, columns: right(head, hidden, columns + 1))


def _dropped_cache(model: EquiLMForCausalLM, patch: pytest.MonkeyPatch) -> None:
    right = EquiLMForCausalLM._average

    def wrong(self: EquiLMForCausalLM, batch: TextBatch, cache: Any, *args: Any) -> Any:
        return right(self, batch, None, *args)

    patch.setattr(EquiLMForCausalLM, "_average", wrong)


def _wrong_table(model: EquiLMForCausalLM, patch: pytest.MonkeyPatch) -> None:
    model.permutation[1] = model.permutation[2]


def _head_that_is_not_linear(model: EquiLMForCausalLM, patch: pytest.MonkeyPatch) -> None:
    head: Any = model.get_output_embeddings()
    head.register_forward_hook(lambda module, args, output: 5 * torch.tanh(output / 5))


MUTATIONS: dict[str, Callable[[EquiLMForCausalLM, pytest.MonkeyPatch], None]] = {
    "swap two rows of a cache": _swap_rows_of_the_cache,
    "a stale cache": _stale_cache,
    "the wrong branch": _wrong_branch,
    "forward instead of inverse": _forward_instead_of_inverse,
    "wrong positions": _wrong_positions,
    "wrong weights of the mean": _wrong_weights_of_the_mean,
    "wrong columns": _wrong_columns,
    "a dropped cache": _dropped_cache,
    "a wrong table": _wrong_table,
    "a head that is not linear": _head_that_is_not_linear,
}


@pytest.mark.parametrize("mutation", MUTATIONS)
@pytest.mark.parametrize("axes", ["d3", "2x3"])
def test_every_break_is_found(mutation: str, axes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = wrap(tiny_model("llama"), AXES[axes])
    MUTATIONS[mutation](model, monkeypatch)
    with pytest.raises((EquiLMError, EquiLMWarning)):  # warnings are errors here
        model.self_check()
