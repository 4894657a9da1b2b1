"""Invariant classifiers and reward models: the definition, whole orbits, labels and losses, saving, what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from models import random_ids
from reader_models import FIRST_TOKEN, LAST_TOKEN, judge_of, padded, reader_wrapper_config, tables, tiny_reader
from torch import Tensor
from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments, pipeline
from transformers.dynamic_module_utils import get_class_from_dynamic_module
from word_models import word_model, word_tokenizer

from equilm import EquiLMError, EquiLMForCausalLM, EquiLMForSequenceClassification, EquiLMWarning
from equilm.loading import load_wrapped

ARCHITECTURES = FIRST_TOKEN + LAST_TOKEN
GROUPS = ("d2", "d3", "d4", "2x3")


@torch.no_grad()
def defined(base: Any, axes: str, ids: Tensor) -> Tensor:
    """1/|G| Σ_g M(g·x) for each text by itself, with no wrapper: float64, shape ``(B, L)``."""
    texts = []
    for text in ids:
        images = [base(input_ids=row[text][None]).logits[0].double() for row in tables(axes)]
        texts.append(torch.stack(images).mean(0))
    return torch.stack(texts)


@pytest.mark.parametrize("axes", GROUPS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_the_definition_and_whole_orbits(architecture: str, axes: str) -> None:
    base = tiny_reader(architecture, num_labels=3)
    judge = judge_of(base, axes)
    for seed in range(3):
        ids = random_ids(4, 11, seed=seed)
        logits = judge(input_ids=ids).logits
        torch.testing.assert_close(logits.double(), defined(base, axes, ids), rtol=1e-5, atol=1e-5)
        images = [judge(input_ids=row[ids]).logits for row in tables(axes)]
        plain = [base(input_ids=row[ids]).logits for row in tables(axes)]
        assert max(float((image - logits).abs().max()) for image in images) <= 1e-6
        assert max(float((image - plain[0]).abs().max()) for image in plain) > 0.05
        # Each by itself, as when texts come one after another, and the orbit of one text as a batch.
        alone = torch.cat([judge(input_ids=row[ids[:1]]).logits for row in tables(axes)])
        together = judge(input_ids=tables(axes)[:, ids[0]]).logits
        assert float((alone - alone[0]).abs().max()) <= 1e-6
        assert float((together - together[0]).abs().max()) <= 1e-6


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_bfloat16(architecture: str) -> None:
    base = tiny_reader(architecture, dtype=torch.bfloat16, num_labels=2)
    judge = judge_of(base, "2x3")
    ids = random_ids(3, 9)
    orbit = torch.stack([judge(input_ids=row[ids]).logits for row in tables("2x3")])
    assert orbit.dtype == torch.bfloat16
    assert torch.equal(orbit, orbit[:1].expand_as(orbit))  # the same rows, summed in the same order
    expected = defined(base, "2x3", ids)
    assert float((orbit[0].double() - expected).abs().max()) <= 0.05 * float(expected.abs().max())


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_padding_on_either_side(architecture: str, side: str) -> None:
    base = tiny_reader(architecture, num_labels=2)
    judge = judge_of(base, "d3")
    texts = [random_ids(1, length, seed=length)[0] for length in (5, 9, 7)]
    ids, mask = padded(texts, side)
    images = [base(input_ids=row[ids], attention_mask=mask).logits for row in tables("d3")]
    logits = judge(input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(logits, torch.stack(images).mean(0), rtol=1e-5, atol=1e-5)
    swapped = judge(input_ids=tables("d3")[1][ids], attention_mask=mask).logits
    assert float((swapped - logits).abs().max()) <= 1e-6
    if side == "right":  # padding changes nothing, in the base model neither
        alone = torch.cat([judge(input_ids=text[None]).logits for text in texts])
        torch.testing.assert_close(logits, alone, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_texts_that_differ_in_padding_mask_or_token_types_share_no_row() -> None:
    """A pooled head looks for the last token that is no padding among the ids, and does not ask the mask."""
    llama = tiny_reader("llama", num_labels=2)
    ids = random_ids(1, 8).repeat(2, 1)
    ids[1, -1] = 0
    mask = torch.ones_like(ids)
    mask[:, -1] = 0
    both = judge_of(llama)(input_ids=ids, attention_mask=mask).logits
    for row in range(2):
        alone = judge_of(llama)(input_ids=ids[row, None], attention_mask=mask[row, None]).logits
        torch.testing.assert_close(both[row, None], alone, rtol=1e-5, atol=1e-5)
    assert float((both[0] - both[1]).abs().max()) > 0.01

    bert = tiny_reader("bert", num_labels=2)
    ids = random_ids(1, 8).repeat(2, 1)
    types = torch.zeros_like(ids)
    types[1, 4:] = 1
    logits = judge_of(bert)(input_ids=ids, token_type_ids=types).logits
    expected = torch.stack([bert(input_ids=row[ids], token_type_ids=types).logits for row in tables("d2")]).mean(0)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    assert float((logits[0] - logits[1]).abs().max()) > 0.01


@torch.no_grad()
def test_equal_rows_run_once() -> None:
    base: Any = tiny_reader("bert")
    judge = judge_of(base, "2x3")
    seen: list[int] = []
    base.register_forward_pre_hook(lambda _, args, kwargs: seen.append(len(kwargs["input_ids"])), with_kwargs=True)
    neutral, one, both = torch.tensor([[30, 40, 50]]), torch.tensor([[30, 10, 50]]), torch.tensor([[30, 10, 20]])
    for ids in (neutral, one, both, tables("2x3")[:, both[0]]):
        judge(input_ids=ids)
    assert seen == [1, 2, 6, 6]
    judge._shares_rows = False
    torch.testing.assert_close(judge(input_ids=one).logits, defined(base, "2x3", one).float(), rtol=1e-5, atol=1e-5)
    assert seen[4] == 6


def test_without_a_padding_token_single_texts_still_work() -> None:
    base: Any = tiny_reader("llama", num_labels=1)
    base.config.pad_token_id = None
    judge = judge_of(base, "d3")
    ids = random_ids(1, 9)
    output = judge(input_ids=ids, output_hidden_states=True)
    torch.testing.assert_close(output.logits.double(), defined(base, "d3", ids), rtol=1e-5, atol=1e-5)
    assert output.hidden_states[-1].shape == (1, 9, 32)
    with pytest.raises(ValueError, match="no padding token"):  # as the base model says
        judge(input_ids=random_ids(2, 9))
    judge.config.get_text_config().pad_token_id = 0  # as TRL's RewardTrainer does
    assert judge(input_ids=random_ids(2, 9)).logits.shape == (2, 1)
    assert "passed" in str(judge.self_check())


LOSSES: dict[str, tuple[dict[str, Any], Tensor]] = {
    "regression": ({"num_labels": 1}, torch.tensor([0.3, -1.0, 2.0])),
    "several regressions": ({"num_labels": 2, "problem_type": "regression"}, torch.randn(3, 2)),
    "one label": ({"num_labels": 3}, torch.tensor([0, 2, 1])),
    "several labels": ({"num_labels": 3}, torch.tensor([[0.0, 1, 1], [1, 0, 0], [0, 0, 1]])),
}


@pytest.mark.parametrize("problem", LOSSES)
@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_losses_are_the_base_model_s(architecture: str, problem: str) -> None:
    settings, labels = LOSSES[problem]
    base = tiny_reader(architecture, **settings)
    judge = judge_of(base)
    assert judge.config.num_labels == settings["num_labels"]
    ids = random_ids(3, 9)
    neutral = torch.where((ids >= 10) & (ids <= 15), torch.full_like(ids, 40), ids)  # fixed by the group
    ours, theirs = judge(input_ids=neutral, labels=labels), base(input_ids=neutral, labels=labels)
    torch.testing.assert_close(ours.loss, theirs.loss, rtol=1e-5, atol=1e-6)
    assert judge.config.problem_type == base.config.problem_type is not None
    one, other = (judge(input_ids=row[ids], labels=labels).loss for row in tables("d2"))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    one.backward()
    assert any(parameter.grad is not None for parameter in base.parameters())


def test_a_loss_of_one_s_own() -> None:
    base: Any = tiny_reader("llama", num_labels=2)
    base.loss_function = lambda logits, labels, pooled_logits, config, **_: pooled_logits.sum() * 0 + 7
    assert float(judge_of(base)(input_ids=random_ids(2, 5), labels=torch.tensor([0, 1])).loss.detach()) == 7


def test_plain_tuple_and_layers() -> None:
    base = tiny_reader("bert", num_labels=2)
    judge = judge_of(base)
    ids = random_ids(2, 7)
    with torch.no_grad(), judge.plain():
        assert torch.equal(judge(input_ids=ids).logits, base(input_ids=ids).logits)
        assert "OFF" in str(judge.fairness_report())
    output = judge(input_ids=ids, output_hidden_states=True)
    expected = base(input_ids=ids, output_hidden_states=True)
    torch.testing.assert_close(output.hidden_states[-1], expected.hidden_states[-1], rtol=1e-5, atol=1e-5)
    assert isinstance(judge(input_ids=ids, return_dict=False), tuple)
    assert "f(gX) = f(X)" in str(judge.fairness_report())


def test_what_is_refused() -> None:
    base = tiny_reader("bert", num_labels=2)
    judge = judge_of(base)
    ids = random_ids(1, 5)
    with pytest.raises(EquiLMError, match="inputs_embeds cannot be permuted"):
        judge(inputs_embeds=torch.zeros(1, 5, 32))
    with pytest.raises(EquiLMError, match="does not know what the group does to pixel_values"):
        judge(input_ids=ids, pixel_values=torch.zeros(1))
    with pytest.raises(EquiLMError, match="generates none"):
        judge.generate(ids)
    with pytest.raises(EquiLMError, match="relaxed=True leaves the logits of general words"):
        EquiLMForSequenceClassification(reader_wrapper_config(base, relaxed=True), base)
    with pytest.raises(EquiLMError, match="has 5 labels, but BertForSequenceClassification has 2"):
        EquiLMForSequenceClassification(reader_wrapper_config(base, num_labels=5), base)
    with pytest.raises(EquiLMError, match="BertForMaskedLM is not a sequence classifier"):
        EquiLMForSequenceClassification.from_base(tiny_reader("bert", masked=True), word_tokenizer())


class TestSelfCheck:
    def test_a_model_that_mixes_its_rows_is_not_handed_out(self) -> None:
        base: Any = tiny_reader("bert", num_labels=2)
        base.register_forward_hook(lambda _, args, output: output | {"logits": output.logits.mean(0, keepdim=True)})
        judge = judge_of(base)
        judge._mean = lambda row_logits, rows: 1.5 * row_logits.mean(0, keepdim=True)  # type: ignore[method-assign]
        with pytest.raises(EquiLMError, match="BertForSequenceClassification in an EquiLMForSequenceClassification"):
            judge.self_check()

    def test_shared_rows_that_are_wrong_are_switched_off(self) -> None:
        judge = judge_of(tiny_reader("bert", num_labels=2), "2x3")
        right = judge._mean

        def wrong(row_logits: Tensor, rows: Any) -> Tensor:
            return right(row_logits, rows) * (2 if judge._shares_rows else 1)

        judge._mean = wrong  # type: ignore[method-assign]
        with pytest.warns(EquiLMWarning, match="wrong with sharing rows"):
            assert judge.self_check().switched_off == ("sharing rows",)


def word_judge(architecture: str = "bert", **settings: Any) -> tuple[EquiLMForSequenceClassification, Any]:
    """A classifier with words, from `from_base`, and its tokenizer."""
    tokenizer: Any = word_tokenizer()
    base = tiny_reader(architecture, **settings)
    base.resize_token_embeddings(len(tokenizer))
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.convert_ids_to_tokens(0)
    base.config.pad_token_id = tokenizer.pad_token_id
    return EquiLMForSequenceClassification.from_base(base, tokenizer, axes=["gender"]), tokenizer


def test_saved_and_loaded_in_every_way(tmp_path: Path) -> None:
    judge, tokenizer = word_judge(
        id2label={0: "bad", 1: "good", 2: "so so"}, problem_type="single_label_classification"
    )
    judge.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    ids = tokenizer(["The man worked as a king"], return_tensors="pt").input_ids
    expected = judge(input_ids=ids).logits
    loaded: Any = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    remote: Any = get_class_from_dynamic_module(
        "modeling_equilm_classification.EquiLMForSequenceClassification", str(tmp_path)
    )
    assert isinstance(loaded, EquiLMForSequenceClassification) and remote is not EquiLMForSequenceClassification
    for model in (loaded, remote.from_pretrained(tmp_path)):
        assert torch.equal(model(input_ids=ids).logits, expected)
        assert model.config.id2label == {0: "bad", 1: "good", 2: "so so"}
        assert "passed" in model.fairness_report().self_check
    assert loaded.config.auto_map["AutoModelForSequenceClassification"].endswith(".EquiLMForSequenceClassification")
    more: Any = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=5, ignore_mismatched_sizes=True)
    assert more(input_ids=ids).logits.shape == (1, 5)


def test_a_fair_language_model_becomes_a_reward_model(tmp_path: Path) -> None:
    """As RewardTrainer does with the name of a model: its layers are kept, its head is new."""
    tokenizer = word_tokenizer()
    language_model = EquiLMForCausalLM.from_base(word_model(tokenizer), tokenizer)
    language_model.save_pretrained(tmp_path / "fair")
    tokenizer.save_pretrained(tmp_path / "fair")
    judge: Any = AutoModelForSequenceClassification.from_pretrained(tmp_path / "fair", num_labels=1)
    assert type(judge.language_model).__name__ == "LlamaForSequenceClassification"
    kept, layers = language_model.language_model.get_decoder(), judge.language_model.model
    assert all(torch.equal(own, other) for own, other in zip(kept.parameters(), layers.parameters(), strict=True))
    ids = tokenizer("The man worked as a king", return_tensors="pt").input_ids
    assert judge(input_ids=ids).logits.shape == (1, 1)
    assert torch.equal(judge(input_ids=ids).logits, judge(input_ids=judge.action.act(ids, 1)).logits)
    judge.save_pretrained(tmp_path / "judge")
    tokenizer.save_pretrained(tmp_path / "judge")
    again: Any = AutoModelForSequenceClassification.from_pretrained(tmp_path / "judge")
    assert torch.equal(again(input_ids=ids).logits, judge(input_ids=ids).logits)
    with pytest.raises(
        EquiLMError, match="holds an EquiLMForSequenceClassification, and an EquiLMForCausalLM is needed"
    ):
        load_wrapped(str(tmp_path / "judge"))


def test_the_pipeline_gives_swaps_one_label_and_score() -> None:
    judge, tokenizer = word_judge("llama", id2label={0: "bad", 1: "good"})
    classify: Any = pipeline("text-classification", model=judge, tokenizer=tokenizer)
    texts = ["The man worked as a king", "The woman worked as a queen", "The doctor was late"]
    man, woman, doctor = classify(texts, top_k=None, batch_size=3)
    assert man == woman != doctor
    assert {entry["label"] for entry in man} == {"bad", "good"}
    with judge.plain():
        plain = classify(texts, top_k=None)
    assert plain[0] != plain[1]


def test_trained_by_trainer_and_still_invariant(tmp_path: Path) -> None:
    base = tiny_reader("bert", num_labels=2)
    judge = judge_of(base)
    ids = random_ids(16, 8)
    rows = [{"input_ids": text, "labels": int(text[0]) % 2} for text in ids]
    settings = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=8,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        learning_rate=1e-3,
        report_to=[],
        use_cpu=True,
        logging_steps=1,
        seed=0,
    )
    trainer = Trainer(judge, settings, train_dataset=rows)
    trainer.train()
    judge.eval()
    with torch.no_grad():
        one, other = (judge(input_ids=row[ids]).logits for row in tables("d2"))
        assert float((one - other).abs().max()) <= 1e-6
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[0] == pytest.approx(losses[0]) and losses[0] < 20


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # asked for by peft
def test_lora(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="needs peft")
    judge = judge_of(tiny_reader("llama", num_labels=1), "d3")
    config = peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["q_proj", "v_proj"], modules_to_save=["score"])
    tuned = peft.get_peft_model(judge, config)
    ids = random_ids(4, 8)
    optimizer = torch.optim.AdamW([p for p in tuned.parameters() if p.requires_grad], lr=1e-2)
    before = judge(input_ids=ids).logits.detach()
    for _ in range(4):
        optimizer.zero_grad()
        tuned(input_ids=ids, labels=torch.tensor([1.0, -1, 0, 2])).loss.backward()
        optimizer.step()
    with torch.no_grad():
        orbit = [tuned(input_ids=row[ids]).logits for row in tables("d3")]
    assert max(float((image - orbit[0]).abs().max()) for image in orbit) <= 1e-6
    assert float((orbit[0] - before).abs().max()) > 0.01
    with pytest.raises(EquiLMError, match="adapters of peft"):
        judge.save_pretrained(tmp_path)
