"""The self-check finds what is wrong with a model, and leaves alone what is right."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from models import ARCHITECTURES, AXES, tiny_model, wrap
from seq2seq_models import tiny_seq2seq, wrap_seq2seq
from torch import Tensor
from transformers import AutoModelForCausalLM, Gemma3TextConfig, PreTrainedModel

import equilm._base_weights as _base_weights
import equilm._modeling_base as modeling_base
import equilm._orbit_rows as _orbit_rows
import equilm._self_check as _self_check
import equilm.modeling_equilm_seq2seq as _seq2seq
from equilm import EquiLMError, EquiLMForCausalLM, EquiLMWarning
from equilm._base_arguments import TextBatch
from equilm._compat import CACHE
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


# --- It runs on a part of the model, where that is enough -------------------------------------------------------------


def _six_layers() -> PreTrainedModel:
    """A tiny Gemma 3 whose third layer is the first of its kind."""
    sizes: dict[str, Any] = tiny_model("gemma3").config.to_dict()
    kinds = ["sliding_attention", "sliding_attention", "full_attention"] * 2
    sizes |= {"num_hidden_layers": 6, "layer_types": kinds}
    return AutoModelForCausalLM.from_config(Gemma3TextConfig(**sizes)).eval()


def _layers_run(model: EquiLMForCausalLM) -> list[int]:
    """Where the numbers of the layers that run are noted."""
    run: list[int] = []
    base: Any = model.language_model
    for number, layer in enumerate(base.model.layers):
        layer.register_forward_hook(lambda module, args, output, number=number: run.append(number))
    return run


def test_the_first_layers_of_each_kind_are_enough() -> None:
    model = wrap(_six_layers(), AXES["2x3"])
    run = _layers_run(model)
    weights = dict(model.named_parameters())
    assert not model.self_check().switched_off
    assert set(run) == {0, 1, 2}
    base: Any = model.language_model
    assert len(base.model.layers) == 6
    assert all(parameter is weights[name] for name, parameter in model.named_parameters())


def test_all_layers_run_where_a_part_of_them_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    model = wrap(_six_layers(), AXES["d3"])
    run = _layers_run(model)
    decoder = type(model.language_model.get_decoder())
    right = decoder.forward

    def needs_all(self: Any, *args: Any, **kwargs: Any) -> Any:
        assert len(self.layers) == 6
        return right(self, *args, **kwargs)

    monkeypatch.setattr(decoder, "forward", needs_all)
    assert not model.self_check().switched_off
    assert set(run) == set(range(6))


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_loading_finds_out_about_the_head(architecture: str, tmp_path: Path) -> None:
    model = wrap(tiny_model(architecture))
    model.save_pretrained(tmp_path)
    for checked in (True, False):
        loaded = EquiLMForCausalLM.from_pretrained(tmp_path, self_check=checked)
        assert loaded._projects_once == model._projects_once == (architecture == "llama")


def test_a_head_with_a_hook_is_run_as_it_is() -> None:
    model = wrap(tiny_model("llama"))
    _, tokens = _self_check._with_small_head(model, model.action)
    assert tokens is not None
    head: Any = model.get_output_embeddings()
    head.register_forward_hook(lambda module, args, output: output)
    assert _self_check._with_small_head(model, model.action)[1] is None


# --- Mutations: each breaks one thing, and each is found --------------------------------------------------------------


def _swap_rows_of_the_cache(model: Any, patch: pytest.MonkeyPatch) -> None:
    right = _orbit_rows.adopt

    def wrong(cache: Any, rows: Rows, tokens: int) -> None:
        right(cache, rows, tokens)
        cache.branches = cache.branches.flip(0)

    patch.setattr(sys.modules[type(model).__module__], "adopt", wrong)


def _stale_cache(model: Any, patch: pytest.MonkeyPatch) -> None:
    def wrong(self: OrbitCache, parents: Tensor) -> None:
        kept = torch.zeros_like(parents)  # every row continues the first one
        super(OrbitCache, self).reorder_cache(kept)  # type: ignore[misc]
        self.row_count = len(parents)

    patch.setattr(OrbitCache, "fork", wrong)


def _wrong_branch(model: Any, patch: pytest.MonkeyPatch) -> None:
    right = Rows.mean
    patch.setattr(Rows, "mean", lambda self, per_row: right(self, per_row)[..., :] * 0 + per_row[self.branches[-1]])


def _forward_instead_of_inverse(model: Any, patch: pytest.MonkeyPatch) -> None:
    right = TokenAction.act_on_logits
    patch.setattr(
        modeling_base,
        "reynolds",
        lambda branches, action: (
            sum(right(action.tokens, branches[g], g) for g in action.group.elements) / action.group.order
        ),
    )


def _wrong_positions(model: Any, patch: pytest.MonkeyPatch) -> None:
    right = TextBatch.of_rows

    def wrong(self: TextBatch, copies: Tensor, rows: Rows) -> dict[str, Any]:
        arguments = right(self, copies, rows)
        ids = arguments["input_ids"]
        return arguments | {"position_ids": torch.arange(ids.shape[1]).expand(ids.shape) * 2}

    patch.setattr(TextBatch, "of_rows", wrong)


def _wrong_weights_of_the_mean(model: Any, patch: pytest.MonkeyPatch) -> None:
    def wrong(self: Rows, per_row: Tensor) -> Tensor:
        return torch.stack([per_row[pattern] for pattern in self.patterns]).cumsum(0)[-1] / (len(self.patterns) + 1)

    patch.setattr(Rows, "mean", wrong)


def _wrong_columns(model: Any, patch: pytest.MonkeyPatch) -> None:
    right = _base_weights.project_columns
    patch.setattr(modeling_base, "project_columns", lambda head, hidden, columns: right(head, hidden, columns + 1))


def _dropped_cache(model: Any, patch: pytest.MonkeyPatch) -> None:
    right = type(model).forward

    def wrong(self: Any, *args: Any, **kwargs: Any) -> Any:
        return right(self, *args, **{name: None if name == CACHE else value for name, value in kwargs.items()})

    patch.setattr(type(model), "forward", wrong)


def _wrong_table(model: Any, patch: pytest.MonkeyPatch) -> None:
    model.permutation[1] = model.permutation[2]


def _head_that_is_not_linear(model: Any, patch: pytest.MonkeyPatch) -> None:
    head: Any = model.get_output_embeddings()
    head.register_forward_hook(lambda module, args, output: 5 * torch.tanh(output / 5))


def _encodings_of_other_copies(model: Any, patch: pytest.MonkeyPatch) -> None:
    right = _seq2seq.OrbitEncoder.forward

    def wrong(self: Any, *args: Any, **kwargs: Any) -> Any:
        output: Any = right(self, *args, **kwargs)
        output.branches = output.branches.flip(1)
        return output

    patch.setattr(_seq2seq.OrbitEncoder, "forward", wrong)


Break = Callable[[Any, pytest.MonkeyPatch], None]
MUTATIONS: dict[str, Break] = {
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
OF_ENCODER_DECODERS = MUTATIONS | {"encodings of other copies": _encodings_of_other_copies}
del OF_ENCODER_DECODERS["wrong positions"]  # the base model makes them
OF_PROJECTION = ("wrong columns", "a head that is not linear")  # T5's head is not applied to the mean hidden state


@pytest.mark.parametrize("mutation", MUTATIONS)
@pytest.mark.parametrize("axes", ["d3", "2x3"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_every_break_is_found(architecture: str, mutation: str, axes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = wrap(tiny_model(architecture), AXES[axes])
    MUTATIONS[mutation](model, monkeypatch)
    with pytest.raises((EquiLMError, EquiLMWarning), match="self-check"):  # warnings are errors here
        model.self_check()


@pytest.mark.parametrize(
    ("architecture", "mutation"),
    [(a, m) for a in ("t5", "bart") for m in OF_ENCODER_DECODERS if a != "t5" or m not in OF_PROJECTION],
)
def test_every_break_of_an_encoder_decoder_is_found(
    architecture: str, mutation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = wrap_seq2seq(tiny_seq2seq(architecture), AXES["2x3"])
    OF_ENCODER_DECODERS[mutation](model, monkeypatch)
    with pytest.raises((EquiLMError, EquiLMWarning), match="self-check"):
        model.self_check()


@pytest.mark.parametrize("mutation", ["a wrong table", "forward instead of inverse", "swap two rows of a cache"])
def test_a_broken_model_is_not_loaded(mutation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = wrap(tiny_model("gpt2"), AXES["d3"])
    model.save_pretrained(tmp_path)
    if mutation == "a wrong table":
        right = EquiLMForCausalLM._tables

        def wrong(self: Any) -> dict[str, Tensor]:
            tables = right(self)
            return tables | {"permutation": tables["permutation"][[0, 2, 2]]}

        monkeypatch.setattr(EquiLMForCausalLM, "_tables", wrong)
    else:
        MUTATIONS[mutation](model, monkeypatch)
    with pytest.raises((EquiLMError, EquiLMWarning), match="self-check"):
        EquiLMForCausalLM.from_pretrained(tmp_path)
