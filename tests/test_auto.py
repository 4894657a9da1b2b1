"""AutoEquiLM: each kind of model gets its class, loaded or by name; what has none is refused by name."""

from pathlib import Path
from typing import Any

import pytest
from image_text_models import tiny_image_text
from reader_models import tiny_reader
from transformers import (
    AutoModel,
    BartConfig,
    BartForConditionalGeneration,
    BartForSequenceClassification,
    BertConfig,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)
from word_models import word_model, word_tokenizer

from equilm import (
    AutoEquiLM,
    EquiLMError,
    EquiLMForCausalLM,
    EquiLMForImageTextToText,
    EquiLMForMaskedLM,
    EquiLMForSeq2SeqLM,
    EquiLMForSequenceClassification,
)
from equilm.auto import _by_class
from equilm.loading import class_names

_BART: dict[str, Any] = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16}
_BART |= {
    "decoder_ffn_dim": 16,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "max_position_embeddings": 64,
}


def base_of(kind: str, size: int) -> PreTrainedModel:
    """A tiny model with room for ``size`` tokens."""
    match kind:
        case "gpt2":
            return GPT2LMHeadModel(GPT2Config(vocab_size=size, n_embd=16, n_layer=1, n_head=2))
        case "t5":
            shape: dict[str, Any] = {
                "d_model": 16,
                "d_ff": 16,
                "num_layers": 1,
                "num_heads": 2,
                "d_kv": 8,
                "decoder_start_token_id": 0,
            }
            return T5ForConditionalGeneration(T5Config(vocab_size=size, **shape))
        case "bart":
            return BartForConditionalGeneration(BartConfig(vocab_size=size, **_BART))
        case "bart classifier":
            return BartForSequenceClassification(BartConfig(vocab_size=size, **_BART | {"num_labels": 3}))
        case "llama classifier" | "modernbert classifier":
            base = tiny_reader(kind.split()[0], num_labels=2)
        case "llava":
            base, _ = tiny_image_text("llava")
        case _:
            base = tiny_reader(kind.split()[0], masked=True)
    base.resize_token_embeddings(size)
    return base


KINDS = {
    "gpt2": EquiLMForCausalLM,
    "t5": EquiLMForSeq2SeqLM,
    "bart": EquiLMForSeq2SeqLM,
    "bart classifier": EquiLMForSequenceClassification,
    "llama classifier": EquiLMForSequenceClassification,
    "modernbert classifier": EquiLMForSequenceClassification,
    "roberta masked": EquiLMForMaskedLM,
    "llava": EquiLMForImageTextToText,
}


@pytest.mark.parametrize("kind", KINDS)
def test_loaded_and_by_name(kind: str, tmp_path: Path) -> None:
    tokenizer: Any = word_tokenizer()
    base = base_of(kind, len(tokenizer)).eval()
    model = AutoEquiLM.from_base(base, tokenizer, axes=["gender"])
    assert type(model) is KINDS[kind] and model.group.order == 2
    base.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert type(AutoEquiLM.from_base(str(tmp_path), axes=["gender", "race"])) is KINDS[kind]
    model.save_pretrained(tmp_path / "fair")
    tokenizer.save_pretrained(tmp_path / "fair")
    for wrapped in (model, str(tmp_path / "fair")):
        with pytest.raises(EquiLMError, match=f"{KINDS[kind].__name__}.* is wrapped already"):
            AutoEquiLM.from_base(wrapped)


def test_a_class_of_one_s_own_goes_by_what_it_is_derived_from() -> None:
    class Mine(type(tiny_reader("bert"))):  # type: ignore[misc]
        pass

    assert _by_class(class_names(Mine(tiny_reader("bert").config)), "Mine", False) is EquiLMForSequenceClassification
    assert _by_class(["QWenLMHeadModel"], "", False) is EquiLMForCausalLM


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # asked for by peft
def test_adapters(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="needs peft")
    tokenizer = word_tokenizer()
    base = word_model(tokenizer)
    base.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    loaded: Any = type(base).from_pretrained(tmp_path / "base")
    for task in ("CAUSAL_LM", None):
        adapted = peft.get_peft_model(loaded, peft.LoraConfig(task_type=task, target_modules=["q_proj"]))
        adapted.save_pretrained(tmp_path / "adapter")
        loaded = adapted.unload()
        assert isinstance(AutoEquiLM.from_base(str(tmp_path / "adapter"), tokenizer), EquiLMForCausalLM)


def test_other_kinds_are_refused_by_name(tmp_path: Path) -> None:
    encoder = AutoModel.from_config(
        BertConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    )
    with pytest.raises(EquiLMError, match=r"^BertModel is not a causal"):
        AutoEquiLM.from_base(encoder, word_tokenizer())
    encoder.save_pretrained(tmp_path)
    with pytest.raises(EquiLMError, match=r"BertModel .* is not a causal"):
        AutoEquiLM.from_base(str(tmp_path))
    encoder.config.architectures = None
    encoder.config.save_pretrained(tmp_path)
    with pytest.raises(EquiLMError, match=r"does not name the model's class\. Choose among"):
        AutoEquiLM.from_base(str(tmp_path))
    with pytest.raises(EquiLMError, match="makes models and is none"):
        AutoEquiLM()
