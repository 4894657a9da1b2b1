"""The group's action on text, what judges its pronouns, and fairness around any generator of texts."""

from .action import TextAction
from .judges import CausalJudge, SpacyJudge
from .symmetrizer import TextSymmetrizer

__all__ = ["CausalJudge", "SpacyJudge", "TextAction", "TextSymmetrizer"]
