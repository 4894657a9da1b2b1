"""The group's action on text, what judges its pronouns, and fairness around any generator or scorer of texts."""

from .action import TextAction
from .invariant import InvariantScore
from .invariant_scorers import invariant_embeddings, invariant_encoder, invariant_pipeline, invariant_reward
from .judges import CausalJudge, SpacyJudge
from .streaming import StreamingTextAction
from .symmetrizer import TextSymmetrizer

__all__ = [
    "CausalJudge",
    "InvariantScore",
    "SpacyJudge",
    "StreamingTextAction",
    "TextAction",
    "TextSymmetrizer",
    "invariant_embeddings",
    "invariant_encoder",
    "invariant_pipeline",
    "invariant_reward",
]
