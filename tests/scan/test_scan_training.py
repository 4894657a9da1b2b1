"""Training on SCAN: the loss falls, what is seen is counted, an interrupted run ends as an uninterrupted one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from recipes import EQUI_TUNING
from transformers import TrainerCallback

from equilm import EquiLMError
from equilm.scan import EquiScanSeq2Seq, GroupScanSeq2Seq, ScanSeq2Seq, all_commands, interpret, load_split
from equilm.scan.modeling_scan import ScanPreTrainedModel
from equilm.scan.tokens import collate
from equilm.scan.training import LengthSampler, Recipe, fit, validation_split

QUIET: dict[str, Any] = {"disable_tqdm": True, "logging_strategy": "no"}
RECIPE = Recipe(sentences=800, batch_size=20, learning_rate=2e-2, evaluations=4)


@pytest.fixture(scope="module")
def short() -> Dataset:
    """The pairs of one or two actions."""
    commands = [command for command in all_commands() if interpret(command).count(" ") < 2]
    return Dataset.from_dict({"commands": commands, "actions": [interpret(command) for command in commands]})


def tiny(kind: str) -> ScanPreTrainedModel:
    torch.manual_seed(0)
    if kind == "grouped":
        return GroupScanSeq2Seq(cell="gru", group="verb", hidden_size=8)
    base = ScanSeq2Seq(cell="gru", hidden_size=16)
    return base if kind == "plain" else EquiScanSeq2Seq.from_base(base, "verb", decoding=kind)  # type: ignore[arg-type]


@torch.no_grad()
def loss(model: ScanPreTrainedModel, batch: dict[str, Any]) -> float:
    return float(model.eval()(**batch).loss)


@pytest.mark.parametrize("kind", ["plain", "grouped", "stepwise", "branchwise"])
def test_training_lowers_the_loss_and_keeps_the_best_model(kind: str, short: Dataset, tmp_path: Path) -> None:
    model = tiny(kind)
    train, validation = validation_split(short, seed=0)
    batch = collate(list(validation)[:50])
    before = loss(model, batch)
    trainer = fit(model, train, validation, RECIPE, tmp_path, **QUIET)
    assert loss(model, batch) < 0.6 * before
    assert trainer.sentences_seen == RECIPE.sentences
    accuracies = [entry["eval_exact_match"] for entry in trainer.state.log_history if "eval_exact_match" in entry]
    assert len(accuracies) == RECIPE.evaluations
    assert model.exact_match(list(validation)) == trainer.state.best_metric == max(accuracies) > 0
    loaded = type(model).from_pretrained(tmp_path)
    assert loaded.exact_match(list(validation)) == trainer.state.best_metric


def test_an_interrupted_run_ends_as_an_uninterrupted_one(short: Dataset, tmp_path: Path) -> None:
    class Interrupt(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 20:
                raise KeyboardInterrupt

    train, validation = validation_split(short, seed=0)
    train = train.select(range(60))  # so that the 40 steps are more than thirteen epochs
    whole, parts, stopped = tiny("plain"), tiny("plain"), tiny("plain")
    fit(whole, train, validation, RECIPE, tmp_path / "whole", seed=3, **QUIET)
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, train, validation, RECIPE, tmp_path / "parts", seed=3, callbacks=[Interrupt()], **QUIET)
    trainer = fit(parts, train, validation, RECIPE, tmp_path / "parts", seed=3, **QUIET)
    assert trainer.sentences_seen == RECIPE.sentences
    assert len(trainer.state.log_history) > 1, "the history goes on where the checkpoint's ends"
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value)


def test_the_seed_decides(short: Dataset, tmp_path: Path) -> None:
    train, validation = validation_split(short, seed=0)
    brief = Recipe(sentences=60, batch_size=20, learning_rate=1e-2, evaluations=1)
    models = [tiny("plain") for _ in range(3)]
    for place, (model, seed) in enumerate(zip(models, (1, 1, 2), strict=True)):
        fit(model, train, validation, brief, tmp_path / str(place), seed=seed, **QUIET)
    same, again, other = (model.state_dict() for model in models)
    assert all(torch.equal(same[name], value) for name, value in again.items())
    assert not all(torch.equal(same[name], value) for name, value in other.items())


def test_batches_hold_sentences_of_about_one_length_in_random_order() -> None:
    lengths = torch.arange(203) % 50
    sampler = LengthSampler(lengths, batch_size=10, seed=4)
    first = list(sampler)
    assert len(first) == len(sampler) == len(set(first)) == 200
    batches = lengths[torch.tensor(first)].view(20, 10)
    assert (batches.max(1).values - batches.min(1).values).max() <= 4
    means = batches.float().mean(1)
    assert not torch.equal(means, means.sort().values) and not torch.equal(means, means.sort(descending=True).values)
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first


def test_validation_is_a_fifth_of_the_training_pairs() -> None:
    pairs = load_split("add_jump")["train"]
    train, validation = validation_split(pairs, seed=0)
    assert (len(train), len(validation)) == (11736, 2934)
    together = sorted([*train["commands"], *validation["commands"]])
    assert together == sorted(pairs["commands"])
    assert list(validation_split(pairs, seed=0)[1]) == list(validation)
    assert list(validation_split(pairs, seed=1)[1]) != list(validation)


def test_equi_tuning_sees_no_more_sentences_than_the_paper() -> None:
    assert EQUI_TUNING.steps * EQUI_TUNING.batch_size <= 10_000


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, True])
def test_other_seeds_are_refused(seed: Any, short: Dataset, tmp_path: Path) -> None:
    with pytest.raises(EquiLMError, match="A seed is an integer of 0 … 2³² - 1, got"):
        validation_split(short, seed)
    with pytest.raises(EquiLMError, match="A seed is an integer of 0 … 2³² - 1, got"):
        fit(tiny("plain"), short, short, RECIPE, tmp_path, seed=seed)


def test_a_batch_larger_than_the_data_is_refused(short: Dataset, tmp_path: Path) -> None:
    with pytest.raises(EquiLMError, match="A batch of 20 sentences needs at least as many, got 12 training pairs"):
        fit(tiny("plain"), short.select(range(12)), short, RECIPE, tmp_path)
