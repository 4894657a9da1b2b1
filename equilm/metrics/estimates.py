"""Numbers measured on samples: a value with its confidence interval, and for a difference also a test."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A value and its confidence interval.

    Args:
        value: the value in the sample.
        low: the lower end of the interval.
        high: the upper end of the interval.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class DifferenceEstimate(Estimate):
    """A difference, a confidence interval that contains it, and a test for no difference.

    Args:
        value: the difference in the sample.
        low: the lower end of the interval.
        high: the upper end of the interval.
        p_value: the probability of a difference at least this large if the groups do not differ.
    """

    p_value: float
