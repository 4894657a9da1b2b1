"""The group's action on text and its pronouns, fairness around any generator or scorer, and prompts with pictures."""

from .action import TextAction
from .image_prompts import image_inputs, open_image
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
    "image_inputs",
    "invariant_embeddings",
    "invariant_encoder",
    "invariant_pipeline",
    "invariant_reward",
    "open_image",
]
