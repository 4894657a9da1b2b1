"""Compositional generalization on SCAN (paper, sections 5.2 and 6.2): the language, its splits and the models."""

from transformers import AutoConfig, AutoModelForSeq2SeqLM

from .configuration_scan import EquiScanConfig, GroupScanConfig, ScanConfig
from .language import all_commands, interpret
from .modeling_equi_scan import EquiScanSeq2Seq
from .modeling_group_scan import GroupScanSeq2Seq
from .modeling_scan import ScanPreTrainedModel, ScanSeq2Seq
from .splits import load_split, make_split
from .tokens import collate, token_actions
from .training import LengthSampler, Recipe, ScanTrainer, fit, validation_split

__all__ = [
    "EquiScanConfig",
    "EquiScanSeq2Seq",
    "GroupScanConfig",
    "GroupScanSeq2Seq",
    "LengthSampler",
    "Recipe",
    "ScanConfig",
    "ScanPreTrainedModel",
    "ScanSeq2Seq",
    "ScanTrainer",
    "all_commands",
    "collate",
    "fit",
    "interpret",
    "load_split",
    "make_split",
    "token_actions",
    "validation_split",
]

AutoConfig.register(ScanConfig.model_type, ScanConfig)
AutoConfig.register(GroupScanConfig.model_type, GroupScanConfig)
AutoConfig.register(EquiScanConfig.model_type, EquiScanConfig)
AutoModelForSeq2SeqLM.register(ScanConfig, ScanSeq2Seq)
AutoModelForSeq2SeqLM.register(GroupScanConfig, GroupScanSeq2Seq)
AutoModelForSeq2SeqLM.register(EquiScanConfig, EquiScanSeq2Seq)
