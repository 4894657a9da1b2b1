"""The paper's regard study (section 6.3): sample, score and show what fairness changes and what it costs.

``equilm report`` runs it from the command line, `equilm.study.run.run_study` from Python. What is sampled and scored
is kept in the output folder as it is made, so that an interrupted study goes on. It needs the extra ``study``.
"""

from .cells import DECODERS, Cell, Study

__all__ = ["DECODERS", "Cell", "Study"]
