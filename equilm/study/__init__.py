"""The regard study (the paper's section 6.3), for any axes and prompts: what fairness changes and what it costs.

``equilm report`` runs it from the command line, `run_study` from Python. Samples and scores are saved in the output
folder as soon as they are made, so an interrupted study can continue. It needs the extra ``study``.
"""

from typing import TYPE_CHECKING, Any

from .cells import DECODERS, Cell
from .study_plan import Study

if TYPE_CHECKING:
    from .records import (
        CostRecord,
        GapRecord,
        JudgeRecord,
        PairRecord,
        PerplexityRecord,
        PerplexityTable,
        SampleRecord,
        StudyDescription,
        StudyResults,
        UncoveredRecord,
    )
    from .run import rebuild, run_study
    from .text_judges import TextJudge, load_judge

__all__ = [
    "DECODERS",
    "Cell",
    "CostRecord",
    "GapRecord",
    "JudgeRecord",
    "PairRecord",
    "PerplexityRecord",
    "PerplexityTable",
    "SampleRecord",
    "Study",
    "StudyDescription",
    "StudyResults",
    "TextJudge",
    "UncoveredRecord",
    "load_judge",
    "rebuild",
    "run_study",
]


def __getattr__(name: str) -> Any:
    """Import modules that need the extra ``study`` only on demand: the command line needs only the settings."""
    if name in ("rebuild", "run_study"):
        from . import run

        return getattr(run, name)
    if name in ("TextJudge", "load_judge"):
        from . import text_judges

        return getattr(text_judges, name)
    if name in __all__:
        from . import records

        return getattr(records, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
