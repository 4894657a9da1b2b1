"""From words to tokens: demographic axes, their surface forms, and the permutation of a vocabulary."""

from .._coverage import Coverage
from .axes import BUILT_IN_AXES, AxisLike, DemographicAxis, load_axes
from .surface_forms import cover_axes
from .vocabulary import VocabularyAction, coverage_table

__all__ = [
    "BUILT_IN_AXES",
    "AxisLike",
    "Coverage",
    "DemographicAxis",
    "VocabularyAction",
    "cover_axes",
    "coverage_table",
    "load_axes",
]
