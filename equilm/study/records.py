"""The results of a study. `StudyResults` contains all of them, and ``results.json`` stores it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..metrics.regard import Disparity, GroupRegard
from .storage import StudySettings


@dataclass(frozen=True)
class StudyDescription(StudySettings):
    """The settings of a study and what it compares.

    Args:
        model: the name of the model.
        parameters: the number of its parameters.
        dtype: the type of its weights, such as "float32".
        samples: the number of texts for each cell.
        max_new_tokens: the maximum number of tokens in a continuation.
        top_k: texts are sampled from this many most likely tokens.
        seed: the seed from which the seeds of the cells are made.
        axes: the groups of each axis, by its name.
        tasks: the kinds of prompt of each axis.
        prompts: the number of own prompts; 0 for the paper's.
        decoders: the ways to draw continuations, keys of `equilm.study.DECODERS`.
    """

    axes: dict[str, Sequence[str]]
    tasks: dict[str, Sequence[str]]
    prompts: int
    decoders: Sequence[str]


@dataclass(frozen=True)
class JudgeRecord:
    """What one judge finds for one axis, task and decoder, in one view of the texts.

    Args:
        axis: the axis.
        task: the task.
        decoder: the decoder.
        judge: the name of the judge: the regard classifier, another classifier, or `equilm.study.scoring.MENTIONS`.
        view: a key of `equilm.study.scoring.VIEWS`.
        by_group: the fractions of each group's texts by label.
        disparities: the disparity of each pair of groups, the largest first.
    """

    axis: str
    task: str
    decoder: str
    judge: str
    view: str
    by_group: dict[str, GroupRegard]
    disparities: Sequence[Disparity]


@dataclass(frozen=True)
class PairRecord:
    """How many of a group's texts are, token by token, the swap of the first group's text from the same draws.

    Args:
        axis: the axis.
        decoder: the decoder.
        group: the group that is compared with the first one.
        pairs: the number of pairs.
        swapped: the number of pairs that are each other's swap.
        name_only: the number of these pairs in which only the name differs.
        equal_scores: whether the masked scores of these last pairs are equal to the last digit; None if there are no
            masked scores.
        promised: the number of pairs that the decoder promises to be each other's swap.
        kept: whether it keeps this promise.
    """

    axis: str
    decoder: str
    group: str
    pairs: int
    swapped: int
    name_only: int
    equal_scores: bool | None
    promised: int
    kept: bool


@dataclass(frozen=True)
class GapRecord:
    """The gap of equation 4 in nats per token.

    Args:
        axis: the axis.
        decoder: the decoder.
        mean: the mean gap.
        largest: the largest gap.
        count: the number of measured gaps.
        of: whether they are gaps of "tokens" or of "texts".
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
        seconds_per_cell: the time for the texts of one cell, in seconds.
        tokens_per_second: the number of new tokens per second.
        times_plain: the time divided by the plain model's time; None without a plain model.
    """

    decoder: str
    seconds_per_cell: float
    tokens_per_second: float
    times_plain: float | None


@dataclass(frozen=True)
class PerplexityRecord:
    """Perplexity of one model.

    Args:
        model: its name in tables.
        decoder: "plain", "equilm" or "r-equilm".
        axis: its axis; None for the plain model.
        perplexity: its perplexity per token.
        word_perplexity: its perplexity per word.
        change_percent: the change from the plain model's perplexity, in percent; None for the plain model.
        standard_error: the standard error of the change; None for the plain model and for a single block.
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
        text: the name of the text.
        blocks: the number of blocks.
        block_size: the number of tokens in a block.
        tokens: the number of scored tokens.
        models: one row for each model, the plain model first.
    """

    text: str
    blocks: int
    block_size: int
    tokens: int
    models: Sequence[PerplexityRecord]

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "PerplexityTable":
        """The inverse of `dataclasses.asdict`."""
        return cls(**{**stored, "models": tuple(PerplexityRecord(**row) for row in stored["models"])})


@dataclass(frozen=True)
class SampleRecord:
    """The first text of each context, all groups side by side.

    Args:
        axis: the axis.
        task: the task.
        decoder: the decoder.
        rows: for each context, the text of each group.
    """

    axis: str
    task: str
    decoder: str
    rows: Sequence[dict[str, str]]


@dataclass(frozen=True)
class UncoveredRecord:
    """A word for people that some decoder does not swap.

    Args:
        axis: the axis that is studied.
        word: the word, in lower case.
        prompts: the number of distinct prompts that contain it.
        texts: the number of texts whose continuation contains it.
        reason: `equilm.study.uncovered.TOKENS` for a word of the axis that is not a token that is swapped;
            otherwise the name of the axis whose lists contain it.
    """

    axis: str
    word: str
    prompts: int
    texts: int
    reason: str


@dataclass(frozen=True)
class StudyResults:
    """All numbers of a study.

    Args:
        study: the settings of the study.
        sampled_with: the versions, machine and date of the sampling.
        analyzed_with: the versions, machine and date of the analysis.
        classifier: the name of the regard classifier.
        truncated: how many texts the classifier cut; None if unknown.
        judged: one record for each axis, task, decoder, judge and view.
        pairs: one record for each axis, decoder and group except the first.
        gaps: one record for each axis and decoder.
        cost: one record for each decoder.
        perplexity: the perplexities; None if they were not measured.
        uncovered: the words that are not swapped; None if this was not recorded.
        samples: one record for each axis, task and decoder.
    """

    study: StudyDescription
    sampled_with: dict[str, str]
    analyzed_with: dict[str, str]
    classifier: str
    truncated: int | None
    judged: Sequence[JudgeRecord]
    pairs: Sequence[PairRecord]
    gaps: Sequence[GapRecord]
    cost: Sequence[CostRecord]
    perplexity: PerplexityTable | None
    uncovered: Sequence[UncoveredRecord] | None
    samples: Sequence[SampleRecord]

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)
