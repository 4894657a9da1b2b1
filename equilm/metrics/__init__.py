"""The measures that the `evaluate` modules in `evaluation` wrap: regard, perplexity, group fairness and invariance."""

from .estimates import DifferenceEstimate, Estimate
from .fairness_result import ElementGap, Gap, GroupFairnessResult, ListParity, MemberParity, Parity
from .group_fairness import SequenceLevel, group_fairness
from .invariance import InvarianceResult, invariance
from .perplexity import measure_perplexities, perplexities, perplexity
from .perplexity_run import PerplexityChange, PerplexityResult, PerplexityRun
from .regard import Disparity, GroupRegard, RegardResult, mask_group, regard, regard_from_scores
from .regard_classifier import LABELS, FunctionClassifier, ModelClassifier, RegardClassifier
from .regard_loading import load_classifier
from .text_blocks import Block, TextBlocks
from .text_lists import check_text_lists
from .wikitext import load_wikitext

__all__ = [
    "CITATION",
    "LABELS",
    "Block",
    "DifferenceEstimate",
    "Disparity",
    "ElementGap",
    "Estimate",
    "FunctionClassifier",
    "Gap",
    "GroupFairnessResult",
    "GroupRegard",
    "InvarianceResult",
    "ListParity",
    "MemberParity",
    "ModelClassifier",
    "Parity",
    "PerplexityChange",
    "PerplexityResult",
    "PerplexityRun",
    "RegardClassifier",
    "RegardResult",
    "SequenceLevel",
    "TextBlocks",
    "check_text_lists",
    "group_fairness",
    "invariance",
    "load_classifier",
    "load_wikitext",
    "mask_group",
    "measure_perplexities",
    "perplexities",
    "perplexity",
    "regard",
    "regard_from_scores",
]

CITATION = """\
@inproceedings{basu-etal-2023-equi-tuning,
    title = {Equi-Tuning: Group Equivariant Fine-Tuning of Pretrained Models},
    author = {Basu, Sourya and Sattigeri, Prasanna and Natesan Ramamurthy, Karthikeyan and Chenthamarakshan, Vijil and
        Varshney, Kush R. and Varshney, Lav R. and Das, Payel},
    booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
    year = {2023},
    url = {https://arxiv.org/abs/2210.06475}
}
"""
