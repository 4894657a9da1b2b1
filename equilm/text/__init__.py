"""The group's action on text, and fairness around any generator of texts."""

from .action import TextAction
from .symmetrizer import TextSymmetrizer

__all__ = ["TextAction", "TextSymmetrizer"]
