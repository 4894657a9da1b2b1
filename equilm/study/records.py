"""What a study finds. `StudyResults` holds all of it, and is what ``results.json`` stores."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..metrics.regard import Disparity, GroupRegard
from .storage import StudySettings


@dataclass(frozen=True)
class StudyDescription(StudySettings):
    """The settings of a study and what it compares.

    Args:
        model: what the model is called.
        parameters: the number of its parameters.
        dtype: of its weights.
        samples: texts for each cell.
        max_new_tokens: the length of a continuation in tokens.
        top_k: sampling is from this many likeliest tokens.
        seed: from which each cell's seed is made.
        axes: the axes.
        tasks: the kinds of prompt.
        decoders: the ways to draw continuations, keys of `equilm.study.DECODERS`.
    """

    axes: Sequence[str]
    tasks: Sequence[str]
    decoders: Sequence[str]


@dataclass(frozen=True)
class RegardRecord:
    """Regard of one axis, task and decoder, read in one way.

    Args:
        axis: the axis.
        task: the task.
        decoder: the decoder.
        view: a key of `equilm.study.scoring.VIEWS`.
        by_group: each group's regard.
        disparities: of every pair of groups, the largest first.
    """

    axis: str
    task: str
    decoder: str
    view: str
    by_group: dict[str, GroupRegard]
    disparities: Sequence[Disparity]


@dataclass(frozen=True)
class PairRecord:
    """How many of a group's texts are, token by token, the swap of the first group's from the same draws.

    Args:
        axis: the axis.
        decoder: the decoder.
        group: the group that is compared with the first one.
        pairs: the number of pairs.
        swapped: how many are each other's swap.
        name_only: in how many of these only the name differs.
        equal_scores: whether the masked scores of these are equal to the last digit.
    """

    axis: str
    decoder: str
    group: str
    pairs: int
    swapped: int
    name_only: int
    equal_scores: bool


@dataclass(frozen=True)
class GapRecord:
    """The gap of equation 4 in nats per token.

    Args:
        axis: the axis.
        decoder: the decoder.
        mean: the mean.
        largest: the largest.
        count: the number of measured gaps.
        of: what each gap belongs to, "tokens" or "texts".
    """

    axis: str
    decoder: str
    mean: float
    largest: float
    count: int
    of: str


@dataclass(frozen=True)
class CostRecord:
    """The time of one decoder, in the median cell.

    Args:
        decoder: the decoder.
        seconds_per_cell: seconds for one cell's texts.
        tokens_per_second: new tokens per second.
        times_plain: the seconds divided by the plain model's; None without a plain model.
    """

    decoder: str
    seconds_per_cell: float
    tokens_per_second: float
    times_plain: float | None


@dataclass(frozen=True)
class PerplexityRecord:
    """Perplexity of one model.

    Args:
        model: what tables call it.
        decoder: "plain", "equilm" or "r-equilm".
        axis: its axis; None for the plain model.
        perplexity: for each token.
        word_perplexity: for each word.
        change_percent: against the plain model; None for the plain model.
        standard_error: of the change; None for the plain model, and for a single block.
    """

    model: str
    decoder: str
    axis: str | None
    perplexity: float
    word_perplexity: float
    change_percent: float | None
    standard_error: float | None


@dataclass(frozen=True)
class PerplexityTable:
    """Perplexity of the plain and the fair models on one text.

    Args:
        text: what the text is called.
        blocks: the number of blocks.
        block_size: tokens in a block.
        tokens: the number of scored tokens.
        models: the plain model first.
    """

    text: str
    blocks: int
    block_size: int
    tokens: int
    models: Sequence[PerplexityRecord]

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "PerplexityTable":
        """What `dataclasses.asdict` gave."""
        return cls(**{**stored, "models": tuple(PerplexityRecord(**row) for row in stored["models"])})


@dataclass(frozen=True)
class SampleRecord:
    """The first text of each context, all groups side by side.

    Args:
        axis: the axis.
        task: the task.
        decoder: the decoder.
        rows: for each context the text of each group.
    """

    axis: str
    task: str
    decoder: str
    rows: Sequence[dict[str, str]]


@dataclass(frozen=True)
class StudyResults:
    """All numbers of a study.

    Args:
        study: what was studied.
        sampled_with: versions, machine and day of the sampling.
        analyzed_with: the same of the analysis.
        classifier: the name of the regard classifier.
        truncated: how many texts it cut; None if it does not tell.
        regard: for each axis, task, decoder and view.
        pairs: for each axis, decoder and group but the first.
        gaps: for each axis and decoder.
        cost: for each decoder.
        perplexity: None if it was not measured.
        samples: for each axis, task and decoder.
    """

    study: StudyDescription
    sampled_with: dict[str, str]
    analyzed_with: dict[str, str]
    classifier: str
    truncated: int | None
    regard: Sequence[RegardRecord]
    pairs: Sequence[PairRecord]
    gaps: Sequence[GapRecord]
    cost: Sequence[CostRecord]
    perplexity: PerplexityTable | None
    samples: Sequence[SampleRecord]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)
