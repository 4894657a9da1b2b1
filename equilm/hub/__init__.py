"""Publishing: the folder of a wrapped model, its card with measurements, and a `custom_generate` repository."""

from .card import model_card
from .measure import Measurements, measure
from .publish import publish, save_custom_generate, save_model

__all__ = ["Measurements", "measure", "model_card", "publish", "save_custom_generate", "save_model"]
