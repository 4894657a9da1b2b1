"""The configuration of an EquiLM around an encoder-decoder."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig

from .configuration_equilm import EquiLMConfig


@strict
class EquiLMSeq2SeqConfig(EquiLMConfig):
    """Configuration of `EquiLMForSeq2SeqLM`; `EquiLMForSeq2SeqLM.from_base` writes it for you.

    Args:
        is_encoder_decoder: always true; `generate` looks here.

    The others are those of `EquiLMConfig`: ``text_config`` is the configuration of the encoder-decoder.
    """

    model_type = "equilm_seq2seq"
    keys_to_ignore_at_inference = ["cache", "past_key_values"]

    is_encoder_decoder: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        if self.text_config is None:
            self.text_config = AutoConfig.for_model("t5")
        super().__post_init__(**kwargs)
