"""Equi-tuned image classifiers (paper, sections 5.1 and 6.1): exactly invariant to quarter turns and flips."""

from transformers import AutoConfig, AutoModelForImageClassification

from .configuration_vision import EquiImageConfig
from .group_linear import GroupLinear
from .heads import EquivariantHead, InvariantHead
from .modeling_vision import EquiForImageClassification

__all__ = [
    "EquiForImageClassification",
    "EquiImageConfig",
    "EquivariantHead",
    "GroupLinear",
    "InvariantHead",
]

AutoConfig.register(EquiImageConfig.model_type, EquiImageConfig)
AutoModelForImageClassification.register(EquiImageConfig, EquiForImageClassification)
