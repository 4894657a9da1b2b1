"""Comparing what a generator does after X and after gX: token by token, by whole continuations, and by texts."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm as Bar
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..errors import EquiLMError
from ..groups import Group
from ..sampling import symmetrized_generate, symmetrized_log_prob
from ..testing import log_prob_gap
from ..text.action import TextAction
from ..words.axes import DemographicAxis
from ..words.vocabulary import VocabularyAction

Array = NDArray[np.float64]
Scorer = Callable[[list[str], list[str]], Sequence[float]]


@dataclass(frozen=True)
class Gaps:
    """|log P(gY|gX) - log P(Y|X)| for n continuations Y of each of P prompts X.

    Args:
        totals: the gap of each Y, at the token level summed over its tokens, shape ``(|G| - 1, P, n)``: one row for
            each element except the identity.
        largest: the largest term of each sum, same shape.
        counts: the number of terms of each sum, shape ``(P, n)``: the tokens of Y at the token level, otherwise 1.
        tokens: the number of tokens of Y, shape ``(P, n)``; None without a tokenizer.
        moved: whether g changes X or Y at all, bool, shape ``(|G| - 1, P, n)``.
    """

    totals: Array
    largest: Array
    counts: Array
    tokens: Array | None
    moved: NDArray[np.bool_]


class LevelMeter(ABC):
    """A generator of texts and a group that acts on what it reads and writes.

    Attributes:
        name: "token", "sequence" or "text".
        axes: the axes; each is a factor of the group.
        group: the group.
        lists: for each axis, the lists of words that are swapped, as they are written.
    """

    name: str
    axes: tuple[DemographicAxis, ...]
    group: Group
    lists: tuple[tuple[tuple[str, ...], ...], ...]

    @abstractmethod
    def moves(self, prompt: str) -> bool:
        """Whether some element of the group changes the prompt."""

    @abstractmethod
    def gaps(self, prompts: Sequence[str], bar: "Bar[Any]") -> Gaps:
        """The gap of equation 4 for continuations of each prompt."""

    @abstractmethod
    def word_log_probs(self, prompt: str) -> list[Array]:
        """For each axis, log P(v|X) that word v of its lists comes next, shape ``(lists, d)``."""


class TokenMeter(LevelMeter):
    """A causal language model, fair or plain, measured by the probability of each token.

    Args:
        model: the model; it is measured as it is, for instance inside its ``plain()``.
        tokenizer: its tokenizer.
        action: the action on its token ids.
        sampling: the number of continuations, their length, and the batch size.
    """

    name = "token"

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        action: VocabularyAction,
        sampling: "ContinuationSampling",
    ):
        self.model, self.tokenizer, self.action, self.sampling = model, tokenizer, action, sampling
        self.axes, self.group = action.axes, action.group
        decode = cast(Callable[[list[int]], str], tokenizer.decode)
        self.lists = tuple(tuple(tuple(decode([token]) for token in ids) for ids in cycles) for cycles in action.cycles)
        eos = model.generation_config.eos_token_id
        self._ends = torch.tensor([] if eos is None else eos, dtype=torch.int64, device="cpu").flatten()

    def encode(self, prompt: str) -> list[int]:
        """The prompt's token ids.

        Raises:
            EquiLMError: for a prompt without tokens.
        """
        ids: list[int] = self.tokenizer(prompt)["input_ids"]
        if not ids:
            raise EquiLMError(f"The prompt {prompt!r} has no tokens. Leave it out, or begin it with the BOS token.")
        return ids

    def moves(self, prompt: str) -> bool:
        ids = torch.tensor(self.encode(prompt))
        return any(not torch.equal(self.action.act(ids, g), ids) for g in self.group.elements)

    @torch.no_grad()
    def gaps(self, prompts: Sequence[str], bar: "Bar[Any]") -> Gaps:
        shape = len(prompts), self.sampling.continuations
        totals, largest = np.zeros((2, self.group.order - 1, *shape))
        moved = np.zeros(totals.shape, dtype=np.bool_)
        tokens = np.zeros(shape)
        for rows, ids, mask, length in self._continued(prompts):
            total, most = self._gap(ids, mask, length)  # (|G| - 1, B) each
            orbit = self.action.to(ids.device).orbit(ids)  # (|G|, B, T + L)
            changed = ((orbit != ids) & (mask > 0)).any(-1)[1:]
            totals[:, rows[0], rows[1]], largest[:, rows[0], rows[1]] = total, most
            moved[:, rows[0], rows[1]] = changed.cpu().numpy()
            tokens[rows] = mask[:, length:].sum(1).cpu().numpy()
            bar.update(len(ids))
        return Gaps(totals, largest, self._counts(tokens), tokens, moved)

    def _counts(self, tokens: Array) -> Array:
        return tokens

    def _continued(self, prompts: Sequence[str]) -> Iterator[tuple[tuple[Any, Any], Tensor, Tensor, int]]:
        """Sample continuations in batches of prompts of equal length, so that no prompt needs padding.

        Yields:
            The indices of the prompts and of the continuations as two arrays, the ids and the mask ``(B, T + L)``, and
            the prompt length T.
        """
        encoded = [self.encode(prompt) for prompt in prompts]
        for length in sorted({len(ids) for ids in encoded}):
            places = [
                (prompt, number)
                for prompt, ids in enumerate(encoded)
                if len(ids) == length
                for number in range(self.sampling.continuations)
            ]
            for start in range(0, len(places), self.sampling.batch_size):
                batch = places[start : start + self.sampling.batch_size]
                inputs = torch.tensor([encoded[prompt] for prompt, _ in batch], device=self.model.device)
                ids = self._generate(inputs, self.sampling.config(self.model))  # (B, T + L)
                ended = torch.isin(ids[:, length:], self._ends.to(ids.device)).long()
                alive = (ended.cumsum(1) == ended).long()  # no end before this token
                rows = tuple(np.array(indices) for indices in zip(*batch, strict=True))
                yield cast(Any, rows), ids, torch.cat([torch.ones_like(inputs), alive], 1), length

    def _generate(self, ids: Tensor, config: GenerationConfig) -> Tensor:
        return cast(Any, self.model).generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)

    def _gap(self, ids: Tensor, mask: Tensor, length: int) -> tuple[Array, Array]:
        """The sum of the tokens' gaps and the largest gap, each ``(|G| - 1, B)``."""
        gap = log_prob_gap(self.model, self.action.to(ids.device), ids, length, mask).double().cpu()  # NaN if masked
        scored = (mask[:, length:] > 0).cpu()
        refuse_nan(gap[:, scored].numpy())
        gap = gap.nan_to_num(nan=0.0, posinf=float("inf"))
        return gap.sum(-1).numpy(), gap.amax(-1).numpy()

    @torch.no_grad()
    def word_log_probs(self, prompt: str) -> list[Array]:
        ids = torch.tensor([self.encode(prompt)], device=self.model.device)
        log_probs = self.model(input_ids=ids).logits[0, -1].double().log_softmax(-1).cpu().numpy()  # (V,)
        refuse_nan(log_probs)
        return [log_probs[np.array(cycles)] for cycles in self.action.cycles]


class SequenceMeter(TokenMeter):
    """A plain model sampled by `equilm.symmetrized_generate`, so that whole continuations follow Q."""

    name = "sequence"

    def _counts(self, tokens: Array) -> Array:
        return np.ones_like(tokens)

    def _generate(self, ids: Tensor, config: GenerationConfig) -> Tensor:
        mask = torch.ones_like(ids)
        action = self.action.to(ids.device)
        output = symmetrized_generate(self.model, ids, action, attention_mask=mask, generation_config=config)
        return cast(Tensor, output)

    def _log_prob(self, ids: Tensor, mask: Tensor, length: int) -> Array:
        return (
            symmetrized_log_prob(
                self.model,
                ids[:, :length],
                ids[:, length:],
                self.action.to(ids.device),
                attention_mask=mask[:, :length],
                continuation_mask=mask[:, length:],
                batch_size=self.sampling.batch_size,
            )
            .double()
            .cpu()
            .numpy()
        )

    def _gap(self, ids: Tensor, mask: Tensor, length: int) -> tuple[Array, Array]:
        reference = self._log_prob(ids, mask, length)
        action = self.action.to(ids.device)
        images = [self._log_prob(action.act(ids, g), mask, length) for g in self.group.elements[1:]]
        gap = absolute_difference(np.stack(images), reference)
        return gap, gap

    @torch.no_grad()
    def word_log_probs(self, prompt: str) -> list[Array]:
        prompt_ids = torch.tensor(self.encode(prompt))
        found = []
        for cycles in self.action.cycles:
            words = torch.tensor(cycles)  # (lists, d)
            flat = words.flatten()[:, None]
            ids = torch.cat([prompt_ids.expand(len(flat), -1), flat], 1).to(self.model.device)
            found.append(self._log_prob(ids, torch.ones_like(ids), len(prompt_ids)).reshape(words.shape))
        return found


class TextMeter(LevelMeter):
    """A scorer of texts, such as an engine behind an API.

    Args:
        score: takes a list of prompts and a list of continuations, and returns log P(Y|X) for each pair.
        action: the action on texts.
        continuations: n continuations of each prompt.
        tokenizer: counts the tokens of a text; None if there is none.
    """

    name = "text"

    def __init__(
        self,
        score: Scorer,
        action: TextAction,
        continuations: Sequence[Sequence[str]],
        tokenizer: PreTrainedTokenizerBase | None,
    ):
        self.score, self.action, self.continuations, self.tokenizer = score, action, continuations, tokenizer
        self.axes, self.group = action.axes, action.group
        self.lists = tuple(tuple(tuple(f" {word}" for word in entry) for entry in axis.words) for axis in self.axes)

    def moves(self, prompt: str) -> bool:
        return len(self.action.stabilizer(prompt)) < self.group.order

    def gaps(self, prompts: Sequence[str], bar: "Bar[Any]") -> Gaps:
        pairs = [(prompt, text) for prompt, texts in zip(prompts, self.continuations, strict=True) for text in texts]
        images = [
            [(self.action.act(x, g), self.action.act_on_continuation(x, y, g)) for x, y in pairs]
            for g in self.group.elements
        ]
        log_probs = self._scores([pair for row in images for pair in row]).reshape(self.group.order, len(prompts), -1)
        moved = np.array([[image != pair for image, pair in zip(row, pairs, strict=True)] for row in images[1:]])
        gap = absolute_difference(log_probs[1:], log_probs[0])
        bar.update(len(pairs))
        tokens = None
        if self.tokenizer is not None:
            counts = [len(self.tokenizer(text, add_special_tokens=False)["input_ids"]) for _, text in pairs]
            tokens = np.array(counts, dtype=np.float64).reshape(gap.shape[1:])
        return Gaps(gap, gap, np.ones(gap.shape[1:]), tokens, moved.reshape(gap.shape))

    def word_log_probs(self, prompt: str) -> list[Array]:
        pairs = [(prompt, word) for lists in self.lists for words in lists for word in words]
        log_probs, found, start = self._scores(pairs), [], 0
        for lists, axis in zip(self.lists, self.axes, strict=True):
            end = start + len(lists) * axis.size
            found.append(log_probs[start:end].reshape(len(lists), axis.size))
            start = end
        return found

    def _scores(self, pairs: Sequence[tuple[str, str]]) -> Array:
        prompts, continuations = (list(texts) for texts in zip(*pairs, strict=True))
        log_probs = np.array([float(value) for value in self.score(prompts, continuations)])
        if len(log_probs) != len(pairs):
            raise EquiLMError(
                f"The scorer was given {len(pairs)} pairs of texts, but returned {len(log_probs)} scores."
            )
        refuse_nan(log_probs)
        return log_probs


@dataclass(frozen=True)
class ContinuationSampling:
    """How continuations are drawn: plain sampling from the whole distribution.

    Args:
        continuations: the number of continuations of each prompt.
        max_new_tokens: the maximum number of tokens in a continuation.
        batch_size: the number of rows in a forward pass.
    """

    continuations: int
    max_new_tokens: int
    batch_size: int

    def config(self, model: PreTrainedModel) -> GenerationConfig:
        """For ``generate``; it overrides the model's own temperature, top-k, top-p and repetition penalty."""
        own = model.generation_config
        eos = own.eos_token_id
        first = eos[0] if isinstance(eos, list) else eos
        return GenerationConfig(
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            repetition_penalty=1.0,
            max_new_tokens=self.max_new_tokens,
            eos_token_id=eos,
            bos_token_id=own.bos_token_id,
            pad_token_id=own.pad_token_id if own.pad_token_id is not None else first,
        )


def absolute_difference(a: Array, b: Array) -> Array:
    """|a - b| of log-probabilities; 0 for two impossible texts, although -inf - -inf is not a number."""
    equal = np.broadcast_to(a == b, np.broadcast_shapes(a.shape, b.shape))
    return np.where(equal, 0.0, np.abs(np.subtract(a, b, where=~equal, out=np.zeros(equal.shape))))


def refuse_nan(log_probs: NDArray[Any]) -> None:
    """Refuse log-probabilities that are not numbers.

    Raises:
        EquiLMError: if there is one.
    """
    if np.isnan(log_probs).any():
        raise EquiLMError(
            "A log-probability is not a number. Load the model in float32 or bfloat16, and check its weights or the "
            "results of the scorer."
        )
