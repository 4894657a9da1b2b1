"""The group_fairness metric: how far is a generator of texts from P(gY|gX) = P(Y|X) (paper, eq. 4)?"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import EquiLMError, EquiLMWarning
from ..groups import Factors
from ..loading import transformers_model
from ..modeling_equilm import EquiLMForCausalLM
from ..text.action import TextAction
from ..words.axes import AxisLike, DemographicAxis, load_axes
from ..words.vocabulary import VocabularyAction
from . import fairness_levels as levels
from .bootstrap import Array, check_bootstrap, clustered_means
from .fairness_levels import ContinuationSampling, LevelMeter, Scorer, absolute_difference
from .fairness_result import ElementGap, Gap, GroupFairnessResult, ListParity, MemberParity, Parity
from .text_lists import check_text_lists

Means = Callable[[Array, Array], Any]
"""`clustered_means` with its settings: from totals and counts to estimates."""

# The pronoun that follows is telling, and the prompts contain no word of the built-in axes.
NEUTRAL_PROMPTS = tuple(
    f"The {job} said that"
    for job in (
        "doctor",
        "nurse",
        "engineer",
        "teacher",
        "lawyer",
        "secretary",
        "driver",
        "cook",
        "scientist",
        "cleaner",
    )
)


@dataclass(frozen=True)
class SequenceLevel:
    """A plain model that is sampled by `equilm.symmetrized_generate`: the distribution Q over whole continuations.

    Args:
        model: the plain model.
        action: the action on its token ids.
    """

    model: PreTrainedModel
    action: VocabularyAction


def group_fairness(
    model: PreTrainedModel | SequenceLevel | Scorer,
    tokenizer: PreTrainedTokenizerBase | None,
    prompts: Sequence[str],
    axes: AxisLike | Sequence[AxisLike] | None = None,
    *,
    continuations: Sequence[Sequence[str]] | None = None,
    num_continuations: int = 8,
    max_new_tokens: int = 15,
    seed: int = 0,
    neutral_prompts: Sequence[str] = NEUTRAL_PROMPTS,
    batch_size: int = 32,
    confidence: float = 0.95,
    bootstrap: int = 1000,
    progress: bool = True,
) -> GroupFairnessResult:
    """Measure |log P(gY|gX) - log P(Y|X)| on continuations Y that the model samples, and parity after neutral prompts.

    A model that satisfies eq. 4 gets 0 up to rounding, about 1e-6 in float32. A gap of 0.7 nats is a factor of 2.

    Args:
        model: a causal language model, plain or fair, which is measured token by token; a `SequenceLevel`; or, for
            engines behind an API, a scorer of texts: ``score(prompts, continuations)`` takes two lists of equal length
            and returns log P(Y|X) for each pair.
        tokenizer: the model's tokenizer. With a scorer it only counts the tokens of a text, and may be None.
        prompts: the prompts X. Prompts that contain words of the axes test most.
        axes: axes, built-in names or paths, one or several; the group is the product of their groups. The default is
            an EquiLM's own axes, or those of a `SequenceLevel`'s action; for an EquiLM you may also name some of its
            axes. A model is tested on the words that its tokenizer has as single tokens, R-EquiLM also on its general
            words, and a scorer on all words.
        continuations: only with a scorer: an equal number of texts Y for each prompt, best sampled from the engine.
        num_continuations: the number of continuations to sample after each prompt.
        max_new_tokens: the maximum number of tokens in a continuation.
        seed: the seed for continuations and resamples; torch's global generator is left unchanged.
        neutral_prompts: prompts that are fixed by the group; if there are none, parity is not measured.
        batch_size: the number of rows in a forward pass.
        confidence: the confidence level of the intervals, such as 0.95.
        bootstrap: the number of resamples of prompts and their continuations.
        progress: whether to show a progress bar.

    Returns:
        The gaps and parities with their intervals; ``print`` shows them as text.

    Raises:
        EquiLMError: without prompts, for axes that a fair model was not built with, for another model's tokenizer, for
            a neutral prompt that contains a word of the axes, and for log-probabilities that are not numbers.

    Warns:
        EquiLMWarning: if no prompt contains a word of the axes, so that only words in continuations are tested.

    Example:
        >>> print(group_fairness(model, tokenizer, ["The man worked as"], "gender"))  # doctest: +SKIP
    """
    check_bootstrap(bootstrap, confidence)
    check_text_lists(prompts=prompts)
    for name, value in (
        ("num_continuations", num_continuations),
        ("max_new_tokens", max_new_tokens),
        ("batch_size", batch_size),
    ):
        if value < 1:
            raise EquiLMError(f"{name}={value} must be at least 1.")
    sampling = ContinuationSampling(num_continuations, max_new_tokens, batch_size)
    level = _level(model, tokenizer, prompts, axes, continuations, sampling)
    moved = sum(level.moves(prompt) for prompt in prompts)
    if moved == 0:
        warnings.warn(
            f"None of the {len(prompts)} prompts contains a word of {_names(level.axes)} that is swapped, so the gap "
            "only tests words in continuations. Add prompts that name the groups.",
            EquiLMWarning,
            stacklevel=2,
        )
    if neutral_prompts:
        check_text_lists(neutral_prompts=neutral_prompts)
    for prompt in neutral_prompts:
        if level.moves(prompt):
            raise EquiLMError(f"The neutral prompt {prompt!r} contains a word of {_names(level.axes)}. Leave it out.")

    number = len(continuations[0]) if continuations is not None else num_continuations
    means: Means = partial(clustered_means, resamples=bootstrap, confidence=confidence, seed=seed)
    total = len(prompts) * number + len(neutral_prompts)
    with tqdm(total=total, desc="Group fairness", unit="text", disable=not progress) as bar:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            found = level.gaps(prompts, bar)
        neutral: list[list[Array]] = []  # by prompt and axis, (lists, d)
        for prompt in neutral_prompts:
            neutral.append(level.word_log_probs(prompt))
            bar.update()

    gap = _gap(level, found.totals, found.largest, found.counts, found.moved, means)
    per_token = None
    if level.name != "token" and found.tokens is not None:
        each = found.totals / np.maximum(found.tokens, 1)  # an empty text has no gap to divide
        per_token = _gap(level, each, each, found.counts, found.moved, means)
    parity: tuple[Parity, ...] = ()
    if neutral:
        by_axis = [np.stack(log_probs) for log_probs in zip(*neutral, strict=True)]  # (P, lists, d) each
        parity = tuple(_parity(level, i, log_probs, means) for i, log_probs in enumerate(by_axis))
    return GroupFairnessResult(
        level=cast(Any, level.name),
        axes=tuple(axis.name for axis in level.axes),
        order=level.group.order,
        token_gap=gap if level.name == "token" else None,
        continuation_gap=None if level.name == "token" else gap,
        continuation_gap_per_token=per_token,
        parity=parity,
        prompts=len(prompts),
        moved_prompts=moved,
        neutral_prompts=len(neutral_prompts),
        num_continuations=number,
        unmapped=_unmapped(level),
        confidence=confidence,
        bootstrap=bootstrap,
        seed=seed,
    )


def _level(
    model: Any,
    tokenizer: PreTrainedTokenizerBase | None,
    prompts: Sequence[str],
    axes: AxisLike | Sequence[AxisLike] | None,
    continuations: Sequence[Sequence[str]] | None,
    sampling: ContinuationSampling,
) -> LevelMeter:
    inside = model if isinstance(model, SequenceLevel) else transformers_model(model)
    if not isinstance(inside, PreTrainedModel | SequenceLevel):
        if axes is None or continuations is None:
            raise EquiLMError("A scorer needs axes=..., and continuations=... with texts for each prompt.")
        numbers = {len(texts) for texts in continuations}
        if len(continuations) != len(prompts) or len(numbers) != 1 or 0 in numbers or _has_text(continuations):
            raise EquiLMError(
                f"continuations must be {len(prompts)} lists, one for each prompt, with the same number of texts, at "
                f"least one; got {len(continuations)} lists of {sorted(numbers)} texts."
            )
        return levels.TextMeter(model, TextAction(axes), continuations, tokenizer)
    if continuations is not None:
        raise EquiLMError("continuations are only for a scorer of texts: a model samples its own. Leave them out.")
    if tokenizer is None:
        raise EquiLMError("A model needs its tokenizer: pass tokenizer=...")
    if isinstance(inside, SequenceLevel):
        if axes is not None:
            raise EquiLMError("A SequenceLevel is tested on the axes of its action: leave axes out.")
        return levels.SequenceMeter(inside.model, tokenizer, inside.action, sampling)
    if isinstance(inside, EquiLMForCausalLM):
        return levels.TokenMeter(model, tokenizer, own_action(inside, tokenizer, axes), sampling)
    if axes is None:
        raise EquiLMError(f"{type(inside).__name__} was not built with axes: name them, such as axes='gender'.")
    size = inside.config.get_text_config().vocab_size
    action = VocabularyAction.from_axes(axes, tokenizer, vocab_size=size, unmappable="skip")
    return levels.TokenMeter(model, tokenizer, action, sampling)


def own_action(
    model: EquiLMForCausalLM, tokenizer: PreTrainedTokenizerBase, axes: AxisLike | Sequence[AxisLike] | None = None
) -> VocabularyAction:
    """The action of a fair model's axes, or of some of them, R-EquiLM's general words included."""
    own = tuple(DemographicAxis.from_dict(axis) for axis in model.config.axes or ())
    size = model.config.get_text_config().vocab_size
    if not own:
        raise EquiLMError("The model's config names no axes, so its words are unknown. Build it with from_base.")
    action = VocabularyAction.from_axes(own, tokenizer, vocab_size=size, unmappable="skip")
    if action.cycles != model.config.token_cycles():
        raise EquiLMError(
            f"The tokenizer {tokenizer.name_or_path!r} does not give the token ids that the model was built with. "
            "Pass the model's own tokenizer."
        )
    if axes is None:
        return action
    asked = load_axes(axes)
    if foreign := [axis for axis in asked if axis not in own]:
        raise EquiLMError(
            f"The model was built with {_names(own)}, so it promises nothing about {_names(foreign)}. Leave axes out, "
            "or build a model with these axes."
        )
    return VocabularyAction.from_axes(asked, tokenizer, vocab_size=size, unmappable="skip")


def _gap(level: LevelMeter, totals: Array, largest: Array, counts: Array, moved: Any, means: Means) -> Gap:
    """Statistics of gaps ``(|G| - 1, P, n)``, for each element and over all elements."""
    *by_element, overall = means(np.concatenate([totals, totals.mean(0)[None]]), counts)
    entries = tuple(
        ElementGap(g, _swaps(level, g), by_element[g - 1], float(largest[g - 1].max()), float(moved[g - 1].mean()))
        for g in level.group.elements[1:]
    )
    return Gap(overall, float(largest.max()), entries)


def _parity(level: LevelMeter, number: int, log_probs: Array, means: Means) -> Parity:
    """Statistics of one axis from log P(v|X), shape ``(P, lists, d)``."""
    axis, lists = level.axes[number], level.lists[number]
    probs = np.exp(log_probs)
    moves = dict.fromkeys(Factors([axis.factors for axis in level.axes]).moves(number))  # those that differ
    shifted = [absolute_difference(log_probs[..., list(move)], log_probs) for move in moves if move[0] > 0]
    ratios = np.stack(shifted)  # (d - 1, P, lists, d)
    of_members = probs.sum(1)  # (P, d)
    of_lists = probs.sum(2)  # (P, lists)
    columns = [
        ratios.mean((0, 2, 3))[:, None],
        of_members,
        of_members / of_members.sum(1, keepdims=True),
        of_lists,
        (probs / of_lists[..., None]).reshape(len(probs), -1),
    ]
    table = np.concatenate(columns, 1).T[..., None]  # (columns, P, 1)
    estimates = iter(means(table, np.ones(table.shape[1:])))
    mean = next(estimates)
    member_probabilities = [next(estimates) for _ in range(axis.size)]
    member_shares = [next(estimates) for _ in range(axis.size)]
    list_probabilities = [next(estimates) for _ in lists]
    list_shares = [tuple(next(estimates) for _ in range(axis.size)) for _ in lists]
    members = zip(axis.words[0], member_probabilities, member_shares, strict=True)
    entries = zip(lists, list_probabilities, list_shares, ratios.max((0, 1, 3)), strict=True)
    return Parity(
        axis=axis.name,
        mean_log_ratio=mean,
        largest_log_ratio=float(ratios.max()),
        members=tuple(MemberParity(*member) for member in members),
        lists=tuple(ListParity(words, total, shares, float(most)) for words, total, shares, most in entries),
    )


def _swaps(level: LevelMeter, g: int) -> str:
    """What g does to the first list of each axis: "man→woman, Black→White"."""
    factors = Factors([axis.factors for axis in level.axes])
    moved = [(axis.words[0], factors.moves(number)[g][0]) for number, axis in enumerate(level.axes)]
    return ", ".join(f"{words[0]}→{words[cell]}" for words, cell in moved if cell > 0)


def _unmapped(level: LevelMeter) -> dict[str, tuple[tuple[str, ...], ...]]:
    """For each axis, the lists that are swapped in none of their forms."""
    if not isinstance(level, levels.TokenMeter):
        return {}
    rows = [row for row in level.action.coverage if not row.general]
    mapped = {(row.axis, row.entry) for row in rows if row.mapped}
    missing = {
        axis.name: tuple(entry for entry in map(tuple, axis.words) if (axis.name, entry) not in mapped)
        for axis in level.axes
    }
    return {axis: lists for axis, lists in missing.items() if lists}


def _names(axes: Sequence[DemographicAxis]) -> str:
    return ", ".join(axis.name for axis in axes)


def _has_text(continuations: Sequence[Sequence[str]]) -> bool:
    return any(isinstance(texts, str) for texts in continuations)
