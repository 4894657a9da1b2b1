"""The measures that the `evaluate` modules in `evaluation` wrap: regard, perplexity and group fairness."""

from .fairness_result import ElementGap, Gap, GroupFairnessResult, ListParity, MemberParity, Parity
from .group_fairness import SequenceLevel, group_fairness
from .load_metric import resolve_model
from .perplexity import measure, perplexities, perplexity
from .perplexity_run import PerplexityChange, PerplexityResult, PerplexityRun
from .regard import Disparity, Estimate, GroupRegard, RegardResult, mask_group, regard, regard_from_scores
from .regard_classifier import LABELS, FunctionClassifier, ModelClassifier, RegardClassifier, load_classifier
from .text_blocks import Block, TextBlocks
from .wikitext import load_wikitext

__all__ = [
    "CITATION",
    "LABELS",
    "Block",
    "Disparity",
    "ElementGap",
    "Estimate",
    "FunctionClassifier",
    "Gap",
    "GroupFairnessResult",
    "GroupRegard",
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
    "group_fairness",
    "load_classifier",
    "load_wikitext",
    "mask_group",
    "measure",
    "perplexities",
    "perplexity",
    "regard",
    "regard_from_scores",
    "resolve_model",
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
