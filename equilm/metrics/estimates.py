"""What is measured from samples: a value with its confidence interval, for a difference with a test too."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A value and its confidence interval.

    Args:
        value: of the texts at hand.
        low: lower end of the interval.
        high: upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class DifferenceEstimate(Estimate):
    """A difference, its confidence interval, which contains it, and a test that there is none.

    Args:
        value: of the texts at hand.
        low: lower end of the interval.
        high: upper end.
        p_value: the probability of a difference at least as large if the groups do not differ.
    """

    p_value: float
