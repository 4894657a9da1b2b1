"""equilm: language models that treat demographic groups alike by construction."""

from transformers import AutoConfig, AutoModelForCausalLM

from .actions import Action
from .configuration_equilm import EquiLMConfig
from .demographics import DemographicAxis
from .errors import EquiLMError, EquiLMWarning
from .groups import CyclicGroup, DihedralGroup, Group, ProductGroup
from .logits_process import EquiLogitsProcessor
from .modeling_equilm import EquiLMForCausalLM
from .sampling import symmetrized_generate, symmetrized_log_prob
from .symmetrize import equi_tune
from .text_symmetrizer import TextSymmetrizer
from .vocabulary import VocabularyAction

__version__ = "0.1.0"

__all__ = [
    "Action",
    "CyclicGroup",
    "DemographicAxis",
    "DihedralGroup",
    "EquiLMConfig",
    "EquiLMError",
    "EquiLMForCausalLM",
    "EquiLMWarning",
    "EquiLogitsProcessor",
    "Group",
    "ProductGroup",
    "TextSymmetrizer",
    "VocabularyAction",
    "equi_tune",
    "symmetrized_generate",
    "symmetrized_log_prob",
]

AutoConfig.register(EquiLMConfig.model_type, EquiLMConfig)
AutoModelForCausalLM.register(EquiLMConfig, EquiLMForCausalLM)
