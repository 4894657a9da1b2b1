"""The group's action on text, and fairness around any generator or scorer of texts."""

from .action import TextAction
from .invariant import InvariantScore
from .invariant_scorers import invariant_embeddings, invariant_encoder, invariant_pipeline, invariant_reward
from .symmetrizer import TextSymmetrizer

__all__ = [
    "InvariantScore",
    "TextAction",
    "TextSymmetrizer",
    "invariant_embeddings",
    "invariant_encoder",
    "invariant_pipeline",
    "invariant_reward",
]
