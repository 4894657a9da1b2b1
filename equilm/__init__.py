"""equilm: language models that treat demographic groups alike by construction."""

from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
)

from ._fairness_report import FairnessReport
from ._modeling_base import EquiLMPreTrainedModel
from .actions import Action
from .auto import AutoEquiLM
from .configuration_equilm import EquiLMConfig, EquiLMSeq2SeqConfig
from .errors import EquiLMError, EquiLMWarning
from .logits_process import EquiLogitsProcessor
from .metrics.load_metric import load_metric
from .modeling_equilm import EquiLMForCausalLM
from .modeling_equilm_classification import EquiLMForSequenceClassification
from .modeling_equilm_image_text import EquiLMForImageTextToText
from .modeling_equilm_masked import EquiLMForMaskedLM
from .modeling_equilm_seq2seq import EquiLMForSeq2SeqLM
from .sampling import symmetrized_generate, symmetrized_log_prob
from .symmetrize import equi_tune
from .text.symmetrizer import TextSymmetrizer
from .words.axes import DemographicAxis
from .words.vocabulary import VocabularyAction

__version__ = "0.1.0"

__all__ = [
    "Action",
    "AutoEquiLM",
    "DemographicAxis",
    "EquiLMConfig",
    "EquiLMError",
    "EquiLMForCausalLM",
    "EquiLMForImageTextToText",
    "EquiLMForMaskedLM",
    "EquiLMForSeq2SeqLM",
    "EquiLMForSequenceClassification",
    "EquiLMPreTrainedModel",
    "EquiLMSeq2SeqConfig",
    "EquiLMWarning",
    "EquiLogitsProcessor",
    "FairnessReport",
    "TextSymmetrizer",
    "VocabularyAction",
    "equi_tune",
    "load_metric",
    "symmetrized_generate",
    "symmetrized_log_prob",
]

AutoConfig.register(EquiLMConfig.model_type, EquiLMConfig)
AutoModelForCausalLM.register(EquiLMConfig, EquiLMForCausalLM)
AutoModelForSequenceClassification.register(EquiLMConfig, EquiLMForSequenceClassification)
AutoModelForMaskedLM.register(EquiLMConfig, EquiLMForMaskedLM)
AutoModelForImageTextToText.register(EquiLMConfig, EquiLMForImageTextToText)
AutoConfig.register(EquiLMSeq2SeqConfig.model_type, EquiLMSeq2SeqConfig)
AutoModelForSeq2SeqLM.register(EquiLMSeq2SeqConfig, EquiLMForSeq2SeqLM)

# Saved models include the code they need, for readers without this package (`trust_remote_code=True`).
EquiLMConfig.register_for_auto_class()
EquiLMForCausalLM.register_for_auto_class("AutoModelForCausalLM")
EquiLMForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")
EquiLMForMaskedLM.register_for_auto_class("AutoModelForMaskedLM")
EquiLMForImageTextToText.register_for_auto_class("AutoModelForImageTextToText")
EquiLMSeq2SeqConfig.register_for_auto_class()
EquiLMForSeq2SeqLM.register_for_auto_class("AutoModelForSeq2SeqLM")
