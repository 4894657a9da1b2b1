"""Base models in half precision and quantized ones: wrapped, fair, saved, and trained with adapters."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    GgufConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
    TorchAoConfig,
)
from transformers.quantizers.auto import AutoHfQuantizer
from word_models import word_model, word_tokenizer

from equilm import EquiLMForCausalLM, EquiLMWarning
from equilm.testing import assert_equivariant, log_prob_gap

HALF = [torch.float16, torch.bfloat16]


def _int8(activations: bool = False, **settings: Any) -> TorchAoConfig:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, Int8WeightOnlyConfig

    return TorchAoConfig(Int8DynamicActivationInt8WeightConfig() if activations else Int8WeightOnlyConfig(), **settings)


def _int4(**settings: Any) -> TorchAoConfig:
    from torchao.quantization import IntxWeightOnlyConfig

    int4: Any = torch.int4  # type: ignore[attr-defined]
    return TorchAoConfig(IntxWeightOnlyConfig(weight_dtype=int4), **settings)


torchao = pytest.mark.skipif(find_spec("torchao") is None, reason="needs torchao")
bitsandbytes = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="needs bitsandbytes")

# Both libraries use, on import and in use, what torch deprecates; bitsandbytes says at each call that it casts.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning"),
]

QUANTIZED = [
    pytest.param(lambda: _int8(), marks=torchao, id="torchao-int8"),
    pytest.param(lambda: _int8(include_input_output_embeddings=True), marks=torchao, id="torchao-int8-head"),
    pytest.param(lambda: _int8(activations=True), marks=torchao, id="torchao-int8-activations"),
    pytest.param(lambda: _int4(include_input_output_embeddings=True), marks=torchao, id="torchao-int4-head"),
    pytest.param(
        lambda: BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0),
        marks=bitsandbytes,
        id="bitsandbytes-int8",
    ),
    pytest.param(
        lambda: BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4"),
        marks=bitsandbytes,
        id="bitsandbytes-nf4",
    ),
]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return word_tokenizer()


@pytest.fixture(scope="module")
def folder(tokenizer: PreTrainedTokenizerBase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama with layers large enough for every library's blocks of weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer) + 7,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.4,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    path = tmp_path_factory.mktemp("base")
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def ids(tokenizer: PreTrainedTokenizerBase) -> Tensor:
    text = "The man worked as a doctor and she was late because the king was"
    return tokenizer(text, return_tensors="pt").input_ids


@torch.no_grad()
def logits(model: Any, ids: Tensor) -> Tensor:
    return model(input_ids=ids).logits


def gap_between_batches(model: EquiLMForCausalLM, ids: Tensor) -> float:
    """The largest |g·φ(x) - φ(g·x)|, x alone and g·x with another text beside it, relative to the largest logit."""
    other = ids.flip(1)
    expected = model.action.act_on_logits(logits(model, ids), 1)
    found = logits(model, torch.cat([model.action.act(ids, 1), other]))[:1]
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_half_precision(folder: Path, tokenizer: PreTrainedTokenizerBase, ids: Tensor, dtype: torch.dtype) -> None:
    model = EquiLMForCausalLM.from_base(str(folder), dtype=dtype)
    assert model.dtype == dtype and logits(model, ids).dtype == dtype
    assert_equivariant(model, ids)
    assert log_prob_gap(model, model.action, ids, 1).max() <= 1e-4
    texts: list[Any] = []
    for g in model.group.elements:
        prompt = model.action.act(ids, g)
        torch.manual_seed(0)
        texts.append(model.generate(prompt, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=True))
    assert torch.equal(model.action.act(texts[0], 1), texts[1])


@pytest.mark.parametrize("quantization", QUANTIZED)
class TestQuantized:
    @pytest.fixture
    def model(self, folder: Path, quantization: Callable[[], Any]) -> EquiLMForCausalLM:
        return EquiLMForCausalLM.from_base(str(folder), quantization_config=quantization())

    def test_fair_with_other_weights(self, folder: Path, model: EquiLMForCausalLM, ids: Tensor) -> None:
        whole = logits(EquiLMForCausalLM.from_base(str(folder)), ids)
        assert 0.01 < (logits(model, ids) - whole).abs().max() < whole.abs().max()
        assert_equivariant(model, ids)
        assert gap_between_batches(model, ids) <= 1e-5
        with model.plain(), pytest.raises(AssertionError, match="Not equivariant"):
            assert_equivariant(model, ids)

    def test_logits_equal_the_definition(self, model: EquiLMForCausalLM, ids: Tensor) -> None:
        base = model.language_model
        mean = torch.stack([logits(base, row[ids])[..., row] for row in model.permutation]).mean(0)
        torch.testing.assert_close(logits(model, ids), mean, atol=1e-4, rtol=0)

    def test_generate(self, model: EquiLMForCausalLM, ids: Tensor) -> None:
        mask = torch.ones_like(ids)
        texts: list[Any] = [
            model.generate(model.action.act(ids, g), attention_mask=mask, max_new_tokens=8)
            for g in model.group.elements
        ]
        assert torch.equal(model.action.act(texts[0], 1), texts[1])

    def test_save_and_load(self, model: EquiLMForCausalLM, ids: Tensor, tmp_path: Path) -> None:
        # Before the first forward pass: bitsandbytes then packs 4-bit weights for the CPU in a way it cannot load.
        model.save_pretrained(tmp_path)
        loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
        assert type(loaded) is EquiLMForCausalLM and loaded.is_quantized
        assert torch.equal(logits(loaded, ids), logits(model, ids))
        assert_equivariant(loaded, ids)

    def test_a_saved_model_is_quantized_while_loading(
        self, folder: Path, quantization: Callable[[], Any], model: EquiLMForCausalLM, ids: Tensor, tmp_path: Path
    ) -> None:
        EquiLMForCausalLM.from_base(str(folder)).save_pretrained(tmp_path)
        loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path, quantization_config=quantization())
        assert torch.equal(logits(loaded, ids), logits(model, ids))


# Quantized activations have no gradients.
@pytest.mark.parametrize("quantization", [case for case in QUANTIZED if case.id != "torchao-int8-activations"])
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:TorchaoLoraLinear was instantiated:UserWarning")
def test_adapters(folder: Path, ids: Tensor, quantization: Callable[[], Any]) -> None:
    peft = pytest.importorskip("peft", reason="needs peft")
    model = EquiLMForCausalLM.from_base(str(folder), quantization_config=quantization())
    settings = {"target_modules": ["q_proj", "v_proj"], "r": 4}
    adapted = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **settings))
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = adapted(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.3
    assert_equivariant(adapted.eval(), ids)


@torchao
def test_trainer_refuses_to_train_quantized_weights(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="needs accelerate")
    from transformers import Trainer, TrainingArguments

    model = EquiLMForCausalLM.from_base(str(folder), quantization_config=_int8())
    arguments = TrainingArguments(output_dir=str(tmp_path), report_to="none", use_cpu=True)
    with pytest.raises(ValueError, match="cannot perform fine-tuning on purely quantized models"):
        Trainer(model, arguments)


@bitsandbytes
def test_columns_picked_from_the_whole_batch_get_a_warning(folder: Path, ids: Tensor) -> None:
    with pytest.warns(EquiLMWarning, match=r"with the texts beside it.*llm_int8_threshold=0\.0"):
        model = EquiLMForCausalLM.from_base(str(folder), quantization_config=BitsAndBytesConfig(load_in_8bit=True))
    assert_equivariant(model, ids)
    assert gap_between_batches(model, ids) > 1e-3, "or the warning says nothing"


def test_gguf_files(tokenizer: PreTrainedTokenizerBase, ids: Tensor, tmp_path: Path) -> None:
    """transformers unpacks them while loading, or, where it has a kernel for that, keeps them packed."""
    base: Any = word_model(tokenizer)
    base.is_quantized, base.quantization_method = True, "gguf"
    base.config.quantization_config = GgufConfig()
    base.hf_quantizer = AutoHfQuantizer.from_config(base.config.quantization_config)
    unpacked = EquiLMForCausalLM.from_base(base, tokenizer)
    unpacked.save_pretrained(tmp_path)
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path), ids), logits(unpacked, ids))
    base.hf_quantizer.packed_modules = {"model.layers.0.mlp.up_proj.weight": base.model.layers[0].mlp.up_proj}
    with pytest.raises(ValueError, match=r"(?i)gguf and is not serializable"):
        EquiLMForCausalLM.from_base(base, tokenizer).save_pretrained(tmp_path)
