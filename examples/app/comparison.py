"""Comparing a plain and a fair model on one prompt for every group: their texts, their gaps of eq. 4, and the time."""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, set_seed

from equilm import (
    EquiLMError,
    EquiLMForCausalLM,
    EquiLMWarning,
    FairnessReport,
    equi_tune,
    symmetrized_generate,
    symmetrized_log_prob,
)
from equilm.actions import TokenAction
from equilm.groups import CyclicGroup
from equilm.testing import log_prob_gap
from equilm.text import image_inputs

LEVELS = {"EquiLM": "EquiLM", "R-EquiLM": "R-EquiLM", "sequence": "Sequence level"}

# How many next words are shown: the most likely ones, and the most likely ones among the words that are swapped.
_LIKELY, _SWAPPED = 5, 2


@dataclass(frozen=True)
class Decoding:
    """How texts are decoded; the same for the plain and the fair model.

    Args:
        decoder: "greedy", "sampling" or "beams".
        max_new_tokens: the maximum number of tokens in a text.
        seed: the seed, which is set before each text.
        temperature: the temperature for sampling.
        top_k: sample from this many most likely tokens; 0 for all tokens.
        top_p: sample from the most likely tokens up to this probability.
        num_beams: the number of beams.
    """

    decoder: Literal["greedy", "sampling", "beams"] = "greedy"
    max_new_tokens: int = 24
    seed: int = 0
    temperature: float = 1.0
    top_k: int = 40
    top_p: float = 1.0
    num_beams: int = 4

    def settings(self) -> dict[str, Any]:
        """For ``generate``."""
        length = {"max_new_tokens": self.max_new_tokens}
        match self.decoder:
            case "greedy":
                return {**length, "do_sample": False, "num_beams": 1}
            case "beams":
                return {**length, "do_sample": False, "num_beams": self.num_beams}
            case "sampling":
                warp = {"temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p}
                return {**length, **warp, "do_sample": True, "num_beams": 1}


@dataclass(frozen=True)
class Run:
    """The texts of one model, one for each prompt.

    Args:
        texts: the continuations.
        others: for each text, the text of another prompt to compare it with; empty if there is only one prompt.
        swapped: the other texts in the words of this prompt, which is what a fair model says.
        mean_gap: the mean of |log P(gY|gX) - log P(Y|X)| on these texts, in nats per token.
        largest_gap: the largest of these gaps.
        seconds: the time for decoding.
        rows: the number of rows that went through the base model, in all its forward passes.
    """

    texts: tuple[str, ...]
    others: tuple[str, ...]
    swapped: tuple[str, ...]
    mean_gap: float
    largest_gap: float
    seconds: float
    rows: int


@dataclass(frozen=True)
class NextWord:
    """A possible first token v after the prompt X, with P(gv|gX) for each element g.

    Args:
        words: the text of the token gv for each g, shape ``(|G|,)``.
        plain: P(gv|gX) from the plain model, shape ``(|G|,)``.
        fair: P(gv|gX) from the fair model, shape ``(|G|,)``.
    """

    words: tuple[str, ...]
    plain: tuple[float, ...]
    fair: tuple[float, ...]


@dataclass(frozen=True)
class Comparison:
    """The content of the page.

    Args:
        level: a key of `LEVELS`.
        prompts: the prompt as it was written and its distinct images under the group: the columns of the page.
        groups: for each element, the words in which its prompt differs from the others; words of the axis if there is
            only one prompt.
        plain: the texts of the plain model.
        fair: the texts of the fair model.
        next_words: the most likely next tokens.
        report: which words are swapped.
        notes: sentences that the reader should know.
    """

    level: str
    prompts: tuple[str, ...]
    groups: tuple[str, ...]
    plain: Run
    fair: Run
    next_words: tuple[NextWord, ...]
    report: FairnessReport
    notes: tuple[str, ...]


def compare(
    model: EquiLMForCausalLM, tokenizer: Any, prompt: str, level: str, decoding: Decoding, picture: Any = None
) -> Comparison:
    """Continue a prompt and all its images under the group, plainly and fairly.

    Args:
        model: the fair model; the plain model and the sequence level use its ``language_model``.
        tokenizer: its tokenizer; with a picture, its processor.
        prompt: any text.
        level: a key of `LEVELS`.
        decoding: how texts are decoded.
        picture: what the prompt is about, for a model that reads pictures; it is the same for all groups.

    Raises:
        EquiLMError: for a prompt that is empty or too long.
    """
    base, action = model.language_model, model.action
    ids, others = _encode(tokenizer, prompt, decoding, picture)
    ids = ids.to(base.device)  # (1, T)
    others = {name: value.to(base.device) for name, value in others.items()}
    orbit = action.orbit(ids)[:, 0]  # (|G|, T)
    elements = [g for g in action.group.elements if not (orbit[:g] == orbit[g]).all(1).any()]  # one for each image
    columns = [orbit[g, None] for g in elements]  # the prompt as it was written comes first

    notes = [] if len(columns) > 1 else [_nothing_swapped(model)]
    if level == "sequence":

        def fair(column: Tensor) -> Any:
            return symmetrized_generate(base, column, action, **others, **decoding.settings())

        trivial = TokenAction(CyclicGroup(1), action.permutation[:1])
        plain_gap, fair_gap = (_gap_of_texts(base, action, mixed, others) for mixed in (trivial, action))
        notes.append(
            "At this level whole continuations are fair, so the gap is that of a whole text, divided by its number of "
            "tokens."
        )
    else:

        def fair(column: Tensor) -> Any:
            return model.generate(column, **others, **decoding.settings())

        plain_gap, fair_gap = (_gap_of_tokens(each, action, others) for each in (base, model))
    if level == "R-EquiLM":
        notes.append("R-EquiLM does not average the axis's general words, so it promises nothing about whole texts.")

    def plain(column: Tensor) -> Any:
        return cast(Any, base).generate(column, **others, **decoding.settings())

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        decoded = _decode_all(base, (plain, fair), columns, decoding.seed)
    notes += dict.fromkeys(str(warning.message) for warning in caught if warning.category is EquiLMWarning)
    return Comparison(
        level=level,
        prompts=tuple(_decode(tokenizer, column[0]) for column in columns),
        groups=_groups(model, tokenizer, orbit),
        plain=_run(tokenizer, action, decoded[0], plain_gap, elements, ids.shape[1]),
        fair=_run(tokenizer, action, decoded[1], fair_gap, elements, ids.shape[1]),
        next_words=_next_words(model, tokenizer, orbit, level, others),
        report=model.fairness_report(),
        notes=tuple(notes),
    )


def _encode(tokenizer: Any, prompt: str, decoding: Decoding, picture: Any) -> tuple[Tensor, dict[str, Any]]:
    """The prompt's ids ``(1, T)``, and what else the model takes with a picture."""
    text = prompt.strip()
    if not text:
        raise EquiLMError("The prompt is empty. Write the beginning of a text, such as: The man worked as")
    if picture is None:
        ids, others = tokenizer(text, return_tensors="pt")["input_ids"], {}
    else:
        others = dict(image_inputs(tokenizer, [text], [picture]))
        ids, tokenizer = others.pop("input_ids"), tokenizer.tokenizer
    longest = tokenizer.model_max_length - decoding.max_new_tokens
    if ids.shape[1] > longest:
        raise EquiLMError(
            f"The prompt has {ids.shape[1]} tokens, but with {decoding.max_new_tokens} new ones the model takes at "
            f"most {longest}. Shorten it."
        )
    return ids, others


def _decode(tokenizer: Any, ids: Tensor) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True))


def _nothing_swapped(model: EquiLMForCausalLM) -> str:
    name = (model.config.axes or [])[0]["name"]
    return (
        f"Nothing in the prompt is swapped: it contains no word of the axis {name!r} that this model swaps. Such words "
        "are still treated alike in the continuation."
    )


def _groups(model: EquiLMForCausalLM, tokenizer: Any, orbit: Tensor) -> tuple[str, ...]:
    moved = (orbit != orbit[0]).any(0)  # (T,)
    if moved.any():
        return tuple(", ".join(dict.fromkeys(_decode(tokenizer, i).strip() for i in row[moved])) for row in orbit)
    return next(iter(model.fairness_report().swapped.values()))[0]


@dataclass
class _Decoded:
    """The output of one model: ids ``(1, T + L)`` for each column, and the total seconds and rows."""

    sequences: list[Tensor] = field(default_factory=list)
    seconds: float = 0.0
    rows: int = 0


def _decode_all(
    base: PreTrainedModel, models: Sequence[Callable[[Tensor], Tensor]], columns: Sequence[Tensor], seed: int
) -> list[_Decoded]:
    decoded = [_Decoded() for _ in models]
    for column in columns:
        # In turn, so that other work of the machine slows down both.
        for generate, result in zip(models, decoded, strict=True):
            set_seed(seed)
            start = time.perf_counter()
            with _count_rows(base) as passes:
                result.sequences.append(generate(column))
            result.seconds += time.perf_counter() - start
            result.rows += sum(passes)
    return decoded


def _run(
    tokenizer: Any,
    action: TokenAction,
    decoded: _Decoded,
    gap: Callable[[Tensor, int], Tensor],
    elements: list[int],
    length: int,
) -> Run:
    gaps = torch.cat([gap(sequence, length).flatten() for sequence in decoded.sequences])
    ids = [sequence[0, length:] for sequence in decoded.sequences]
    # Each text is compared with the first one, and the first with the second.
    others = [ids[0 if number else 1] for number in range(len(ids))] if len(ids) > 1 else []
    from_first = [action.act(ids[0], g) for g in elements[1:]]
    swapped = [action.act(ids[1], action.group.inverse(elements[1])), *from_first] if others else []
    return Run(
        texts=tuple(_decode(tokenizer, each) for each in ids),
        others=tuple(_decode(tokenizer, each) for each in others),
        swapped=tuple(_decode(tokenizer, each) for each in swapped),
        mean_gap=float(gaps.mean()),
        largest_gap=float(gaps.max()),
        seconds=decoded.seconds,
        rows=decoded.rows,
    )


@contextmanager
def _count_rows(base: PreTrainedModel) -> Iterator[list[int]]:
    """A list that receives the number of rows in each forward pass of the base model."""
    passes: list[int] = []
    # Plain and fair models both run this part; its first output is (rows, T, hidden size).
    hook = base.get_decoder().register_forward_hook(lambda _module, _inputs, output: passes.append(len(output[0])))
    try:
        yield passes
    finally:
        hook.remove()


def _gap_of_tokens(
    model: PreTrainedModel, action: TokenAction, others: Mapping[str, Any]
) -> Callable[[Tensor, int], Tensor]:
    def gap(sequence: Tensor, length: int) -> Tensor:
        given = {name: value for name, value in others.items() if name != "attention_mask"}  # one text, no padding
        for name in [name for name in given if name.endswith("token_type_ids")]:  # no new token stands for a picture
            given[name] = nn.functional.pad(given[name], (0, sequence.shape[1] - length))
        return log_prob_gap(cast(Any, partial(model, **given)), action, sequence, length)

    return gap


def _gap_of_texts(
    base: PreTrainedModel, action: TokenAction, mixed: TokenAction, others: dict[str, Any]
) -> Callable[[Tensor, int], Tensor]:
    """The gap of log Q, where Q mixes over ``mixed``; with the trivial group, Q is the plain model."""

    @torch.no_grad()
    def gap(sequence: Tensor, length: int) -> Tensor:
        log_q = [
            symmetrized_log_prob(base, image[:, :length], image[:, length:], mixed, **others)
            for image in action.orbit(sequence)
        ]
        return torch.stack([(image - log_q[0]).abs() for image in log_q[1:]]) / (sequence.shape[1] - length)

    return gap


class _NextTokenProbabilities(nn.Module):
    """From ids ``(rows, T)`` to the probabilities of the next token ``(rows, V)``.

    Args:
        model: a causal language model.
        others: what else it takes with a picture, the same for all rows.
    """

    def __init__(self, model: PreTrainedModel, others: Mapping[str, Any]):
        super().__init__()
        self.model = model
        self.others = others

    def forward(self, ids: Tensor) -> Tensor:
        rows = ids.split(1) if self.others else [ids]
        return torch.cat([self.model(input_ids=row, **self.others).logits[:, -1] for row in rows]).float().softmax(-1)


@torch.no_grad()
def _next_words(
    model: EquiLMForCausalLM, tokenizer: Any, orbit: Tensor, level: str, others: Mapping[str, Any]
) -> tuple[NextWord, ...]:
    action, table = model.action, model.permutation  # (|G|, V)
    plain = _NextTokenProbabilities(model.language_model, others)
    mean = equi_tune(plain, action, action.on_logits)  # those of Q, for a single token
    fair = mean if level == "sequence" else _NextTokenProbabilities(model, others)
    probabilities = [each(orbit).gather(1, table) for each in (plain, fair)]  # [g, v]: P(gv|gX)

    fixing = (orbit == orbit[0]).all(1)  # (|G|,): where g fixes X, v and gv are one row of the page
    names = table[fixing].min(0).values  # (V,)
    ranked = probabilities[0].mean(0).argsort(descending=True)
    ranked = ranked[names[ranked] == ranked]
    swapped = ranked[action.moved[ranked]]
    chosen = dict.fromkeys([*ranked[:_LIKELY].tolist(), *swapped[:_SWAPPED].tolist()])
    return tuple(
        NextWord(
            words=tuple(_decode(tokenizer, i) for i in table[:, v]),
            plain=tuple(probabilities[0][:, v].tolist()),
            fair=tuple(probabilities[1][:, v].tolist()),
        )
        for v in chosen
    )
