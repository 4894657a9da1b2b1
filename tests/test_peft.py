"""Adapters of peft around the wrapped model, and a wrapped model with adapters inside."""

from pathlib import Path
from typing import Any

import pytest
import torch
from models import AXES, PAD, random_ids, tiny_model, wrap
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.integrations.peft import MIN_PEFT_VERSION
from transformers.utils.peft_utils import check_peft_version
from word_models import word_model, word_tokenizer

from equilm import EquiLMError, EquiLMForCausalLM, EquiLogitsProcessor, symmetrized_generate, symmetrized_log_prob
from equilm.testing import assert_equivariant, log_prob_gap

peft = pytest.importorskip("peft", reason="needs peft")

pytestmark = [
    # peft asks transformers under a name that newer versions of it deprecate.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning"),  # GPT-2's layers are transposed
]

TARGETS = {"llama": ["q_proj", "v_proj"], "gpt2": ["c_attn"], "gemma2": ["q_proj", "v_proj"], "opt": ["q_proj", "fc1"]}
TEXTS = random_ids(4, 12)


def lora(architecture: str = "llama", **settings: Any) -> Any:
    return peft.LoraConfig(task_type="CAUSAL_LM", **{"target_modules": TARGETS[architecture], "r": 4, **settings})


def tune(model: Any, steps: int = 8, learning_rate: float = 1e-2) -> list[float]:
    """Train what is trainable; the losses."""
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=learning_rate)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(input_ids=TEXTS, labels=TEXTS).loss
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    model.eval()
    return losses


@torch.no_grad()
def logits(model: Any, ids: Tensor = TEXTS) -> Tensor:
    return model(input_ids=ids).logits


def reference(model: EquiLMForCausalLM) -> EquiLMForCausalLM:
    """The same weights with all copies run and projected."""
    model = EquiLMForCausalLM(model.config, model.language_model).eval()
    model._shares_rows = model._projects_once = False
    return model


def left_padded(first: int) -> tuple[Tensor, Tensor]:
    """Prompts that begin with padding, and their mask; each names the axes of AXES["2x3"], so there are no ties."""
    ids = torch.cat([torch.full((4, first), PAD), TEXTS], 1)
    ids[:, first], ids[:, first + 1] = 10, 21
    return ids, (ids != PAD).long()


@pytest.fixture(params=list(TARGETS))
def architecture(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def tuned(architecture: str) -> Any:
    """LoRA around a wrapped model, trained for a few steps."""
    model = peft.get_peft_model(wrap(tiny_model(architecture), AXES["2x3"]), lora(architecture))
    losses = tune(model)
    assert losses[-1] < losses[0] - 0.1
    return model


class TestAroundTheWrappedModel:
    def test_equivariant(self, tuned: Any) -> None:
        ids = random_ids(4, 11, seed=7)
        assert_equivariant(tuned, ids)
        assert log_prob_gap(tuned, tuned.action, ids, prompt_length=1).max() <= 1e-4
        with tuned.plain():
            assert log_prob_gap(tuned, tuned.action, ids, prompt_length=1).max() > 0.1

    def test_adapters_off(self, tuned: Any, architecture: str) -> None:
        with tuned.disable_adapter():
            assert torch.equal(logits(tuned), logits(wrap(tiny_model(architecture), AXES["2x3"])))
            assert_equivariant(tuned, TEXTS)
        assert not torch.allclose(logits(tuned), logits(wrap(tiny_model(architecture), AXES["2x3"])), atol=0.1)

    def test_generate_with_left_padding(self, tuned: Any) -> None:
        ids, mask = left_padded(3)
        text = tuned.generate(input_ids=ids, attention_mask=mask, max_new_tokens=6)
        alone = tuned.generate(input_ids=ids[:, 3:], attention_mask=mask[:, 3:], max_new_tokens=6)
        assert torch.equal(text[:, 3:], alone)
        for g in tuned.group.elements:
            swapped = tuned.generate(input_ids=tuned.action.act(ids, g), attention_mask=mask, max_new_tokens=6)
            assert torch.equal(swapped, tuned.action.act(text, g))

    def test_adapters_saved_and_loaded(self, tuned: Any, architecture: str, tmp_path: Path) -> None:
        tuned.save_pretrained(tmp_path)
        again = peft.PeftModel.from_pretrained(wrap(tiny_model(architecture), AXES["2x3"]), tmp_path)
        assert torch.equal(logits(again), logits(tuned))

    def test_adapters_inside_saved_and_loaded(self, tuned: Any, architecture: str, tmp_path: Path) -> None:
        tuned.save_pretrained(tmp_path)
        native = wrap(tiny_model(architecture), AXES["2x3"])
        native.load_adapter(str(tmp_path))
        assert torch.equal(logits(native), logits(tuned))
        try:
            check_peft_version(MIN_PEFT_VERSION)
        except ValueError:  # transformers 5.24 asks for a peft newer than the newest released
            pytest.skip(f"transformers saves adapters with peft {MIN_PEFT_VERSION} or later only")
        native.save_pretrained(tmp_path / "native")  # transformers writes such adapters by themselves
        assert not (tmp_path / "native" / "model.safetensors").exists()

    def test_merged_saved_and_loaded(self, tuned: Any, tmp_path: Path) -> None:
        expected, projects_once = logits(tuned), tuned._projects_once
        with pytest.raises(EquiLMError, match=r"adapters of peft around them \(default\).*merge_and_unload"):
            tuned.get_base_model().save_pretrained(tmp_path)
        merged = tuned.merge_and_unload()
        assert type(merged) is EquiLMForCausalLM and merged._projects_once == projects_once
        merged.save_pretrained(tmp_path)
        loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
        torch.testing.assert_close(logits(loaded), expected, atol=1e-4, rtol=0)
        assert_equivariant(loaded, TEXTS)


def test_eq_4_after_50_steps_in_words(tmp_path: Path) -> None:
    tokenizer = word_tokenizer()
    model: Any = EquiLMForCausalLM.from_base(word_model(tokenizer), tokenizer)
    text = "The man worked as a doctor and the queen was known for the nurse because she had a job"
    ids = tokenizer(text, return_tensors="pt").input_ids
    model = peft.get_peft_model(model, lora(target_modules="all-linear"))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    for _ in range(50):
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    model.merge_and_unload().save_pretrained(tmp_path)
    loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert log_prob_gap(loaded, loaded.action, ids, prompt_length=2).max() <= 1e-4
    with loaded.plain():
        assert log_prob_gap(loaded, loaded.action, ids, prompt_length=2).max() > 0.1


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["q_proj", "lm_head"], "use_dora": True},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]},
        {"target_modules": ["q_proj"], "trainable_token_indices": [10, 11, 30]},
        {"target_modules": "all-linear"},
    ],
    ids=lambda settings: " ".join(f"{name}={value}" for name, value in settings.items()),
)
@pytest.mark.parametrize("inside", [False, True], ids=["around", "inside"])
def test_adapters_of_the_head_and_the_embeddings(settings: dict[str, Any], inside: bool) -> None:
    base = tiny_model("llama")
    if inside:
        adapted = peft.get_peft_model(base, lora(**settings))
        model = wrap(adapted.get_base_model(), AXES["2x3"])
    else:
        model = wrap(base, AXES["2x3"])
        adapted = peft.get_peft_model(model, lora(**settings))
    losses = tune(model)
    assert losses[-1] < losses[0] - 0.05
    torch.testing.assert_close(logits(model), logits(reference(model)), atol=1e-5, rtol=1e-5)
    assert_equivariant(model, TEXTS)
    expected = logits(model)
    adapted.merge_and_unload()
    torch.testing.assert_close(logits(model), expected, atol=1e-4, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:Model has .tie_word_embeddings:UserWarning")
@pytest.mark.parametrize("settings", [{"target_modules": ["lm_head"]}, {"trainable_token_indices": [10, 30]}], ids=str)
def test_wrapping_adapters_of_tied_weights(settings: dict[str, Any]) -> None:
    base = tiny_model("gemma2")
    adapted = peft.get_peft_model(base, lora("gemma2", **settings))
    before = logits(adapted)
    model = wrap(adapted.get_base_model(), AXES["2x3"])
    assert torch.equal(logits(adapted), before)
    tune(model)
    torch.testing.assert_close(logits(model), logits(reference(model)), atol=1e-5, rtol=1e-5)
    assert_equivariant(model, TEXTS)


class TestInsideTheWrappedModel:
    """The positions of GPT-2 are learned ones, so that wrong ones show in left-padded text."""

    @pytest.fixture
    def adapted(self) -> Any:
        model = peft.get_peft_model(tiny_model("gpt2"), lora("gpt2"))
        tune(model)
        return model

    def test_from_base_takes_a_peft_model(self, tmp_path: Path) -> None:
        tokenizer = word_tokenizer()
        adapted = peft.get_peft_model(word_model(tokenizer), lora(init_lora_weights=False))
        model = EquiLMForCausalLM.from_base(adapted, tokenizer)
        assert model.language_model is adapted.get_base_model()
        ids = tokenizer("The man worked as a doctor and she was late", return_tensors="pt").input_ids
        assert_equivariant(model, ids)
        with adapted.disable_adapter():
            off = EquiLMForCausalLM.from_base(word_model(tokenizer), tokenizer)
            assert torch.equal(logits(model, ids), logits(off, ids))
        assert not torch.allclose(logits(model, ids), logits(off, ids), atol=0.1)
        with pytest.raises(EquiLMError, match="adapters of peft around them"):
            model.save_pretrained(tmp_path)
        expected = logits(model, ids)
        adapted.merge_and_unload()
        model.save_pretrained(tmp_path)
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
        torch.testing.assert_close(logits(loaded, ids), expected, atol=1e-4, rtol=0)

    def test_from_base_takes_a_folder_of_adapters(self, tmp_path: Path) -> None:
        tokenizer = word_tokenizer()
        word_model(tokenizer).save_pretrained(tmp_path / "base")
        base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
        adapted = peft.get_peft_model(base, lora(init_lora_weights=False))
        adapted.save_pretrained(tmp_path / "adapters")
        tokenizer.save_pretrained(tmp_path / "adapters")
        model = EquiLMForCausalLM.from_base(str(tmp_path / "adapters"))
        ids = tokenizer("The man worked as a doctor and she was late", return_tensors="pt").input_ids
        expected = logits(EquiLMForCausalLM.from_base(adapted, tokenizer), ids)
        torch.testing.assert_close(logits(model, ids), expected)
        with pytest.raises(EquiLMError, match="adapters of peft around them"):
            model.save_pretrained(tmp_path / "whole")

    def test_learned_prompts_are_refused(self) -> None:
        tokenizer = word_tokenizer()
        learned = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
        model = peft.get_peft_model(word_model(tokenizer), learned)
        with pytest.raises(EquiLMError, match="PROMPT_TUNING has learned vectors before the text"):
            EquiLMForCausalLM.from_base(model, tokenizer)
        with pytest.raises(EquiLMError, match="PROMPT_TUNING has learned vectors before the text"):
            EquiLogitsProcessor(model, wrap(tiny_model()).action)
        around = peft.get_peft_model(wrap(tiny_model("llama")), learned)
        with pytest.raises(EquiLMError, match="inputs_embeds cannot be permuted"):
            around(input_ids=TEXTS)

    def test_what_is_no_model_is_refused(self) -> None:
        with pytest.raises(EquiLMError, match="Linear is not a model of transformers or peft"):
            EquiLMForCausalLM.from_base(torch.nn.Linear(2, 2), word_tokenizer())  # type: ignore[arg-type]

    def test_left_padding(self, adapted: Any) -> None:
        model = wrap(adapted.get_base_model(), AXES["2x3"])
        ids, mask = left_padded(3)
        text: Any = model.generate(ids, attention_mask=mask, max_new_tokens=6)
        alone: Any = model.generate(ids[:, 3:], attention_mask=mask[:, 3:], max_new_tokens=6)
        assert torch.equal(text[:, 3:], alone)

    def test_processor(self, adapted: Any) -> None:
        model: Any = wrap(adapted.get_base_model(), AXES["2x3"])
        ids, mask = left_padded(3)
        processor = EquiLogitsProcessor(adapted, model.action, attention_mask=mask)
        text = adapted.generate(input_ids=ids, attention_mask=mask, max_new_tokens=6, logits_processor=[processor])
        assert torch.equal(text, model.generate(ids, attention_mask=mask, max_new_tokens=6))
        with pytest.raises(EquiLMError, match="fair by itself"):
            EquiLogitsProcessor(peft.get_peft_model(wrap(tiny_model("gpt2")), lora("gpt2")), wrap(tiny_model()).action)

    def test_sequence_level(self, adapted: Any) -> None:
        action = wrap(tiny_model(), AXES["2x3"]).action
        ids, mask = left_padded(3)
        found = symmetrized_log_prob(adapted, ids[:, :8], ids[:, 8:], action, attention_mask=mask[:, :8])
        alone = symmetrized_log_prob(adapted.get_base_model(), ids[:, 3:8], ids[:, 8:], action)
        torch.testing.assert_close(found, alone, atol=1e-3, rtol=0)
        texts: list[Any] = []
        for model in (adapted, adapted.get_base_model()):
            torch.manual_seed(0)
            texts.append(
                symmetrized_generate(model, ids, action, attention_mask=mask, do_sample=True, max_new_tokens=5)
            )
        assert torch.equal(*texts)
        around = peft.get_peft_model(wrap(tiny_model("gpt2"), AXES["2x3"]), lora("gpt2"))
        with pytest.raises(EquiLMError, match="EquiLMForCausalLM is fair by itself"):
            symmetrized_log_prob(around, ids[:, 3:8], ids[:, 8:], action)


def test_sequence_level_keeps_learned_prompts() -> None:
    base: PreTrainedModel = tiny_model("llama")
    learned = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    model, action = peft.get_peft_model(base, learned).eval(), wrap(base, AXES["2x3"]).action
    with pytest.warns(UserWarning, match="Position ids are not supported"):
        found = symmetrized_log_prob(model, TEXTS[:, :5], TEXTS[:, 5:], action)
    permuted = action.orbit(TEXTS)  # (|G|, B, T)
    with torch.no_grad():
        scores = model(input_ids=permuted.flatten(0, 1)).logits[:, -8:-1].log_softmax(-1)
    each = scores.gather(-1, permuted.flatten(0, 1)[:, 5:, None]).sum((1, 2)).view(6, -1)
    torch.testing.assert_close(found, each.logsumexp(0) - torch.tensor(6.0).log(), atol=1e-4, rtol=0)
    assert not torch.allclose(found, symmetrized_log_prob(base, TEXTS[:, :5], TEXTS[:, 5:], action), atol=0.1)
