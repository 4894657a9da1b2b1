"""Ways to swap *his*, *him*, *her* and *hers* in token ids, some of which depend on the text before.

The action of g on a text swaps each token by a table that the text before chooses, one of two: in a determiner's place
his ↔ her, in any other him ↔ her and his ↔ hers. With c(x), the class of the place after a text x, equal to c(gx), the
average over the group is fair (docs/concepts/pronouns.md), however often c errs.
"""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equilm.words import DemographicAxis, VocabularyAction

# ids (T,), fair logits (T, V) -> bool (T,): is a pronoun after each token in another place than a determiner's?
Classes = Callable[[Tensor, Tensor | None], Tensor]


class Rows:
    """The plain model's logits of rows of token ids; each distinct row is computed once.

    Args:
        model: the plain causal language model.
    """

    def __init__(self, model: Any):
        self._model = model
        self._known: dict[tuple[int, ...], Tensor] = {}

    @torch.no_grad()
    def __call__(self, ids: Tensor) -> Tensor:
        """Float32 logits, shape ``(T, V)``, of ids of shape ``(T,)``."""
        key = tuple(ids.tolist())
        if key not in self._known:
            self._known[key] = self._model(input_ids=ids[None]).logits[0].float()
        return self._known[key]


@dataclass(frozen=True)
class Candidate:
    """A way to act on token ids that may depend on the text before, for a group of two.

    Args:
        tables: int64, shape ``(2, V)``: what the swap turns each token into, for each class of its place: determiner,
            other.
        classes: tells the class of the place after each token; None: all are determiners'.
        by_ids: whether the classes depend on the ids alone.
    """

    tables: Tensor
    classes: Classes | None = None
    by_ids: bool = False

    def fair(self, rows: Rows, ids: Tensor) -> tuple[Tensor, Tensor, int]:
        """The fair logits of a text.

        The class of a place may depend on the fair logits before it, and so on how earlier places are swapped. The
        text is swapped anew until nothing changes: what is right up to one place is right up to the next afterwards.

        Args:
            rows: the plain model.
            ids: the text, shape ``(T,)``.

        Returns:
            The logits after each token, shape ``(T, V)``; the swapped text, shape ``(T,)``; how often the text was
            swapped.
        """
        after = torch.zeros(len(ids), dtype=torch.long)  # (T,), the class of the place after each token
        if self.classes is not None and self.by_ids:
            after = self.classes(ids, None).long()
        swaps = 0
        while True:
            before = torch.cat([torch.zeros(1, dtype=torch.long), after[:-1]])  # (T,), the class of each token's own
            swapped = self.tables[before, ids]
            back = rows(swapped).gather(-1, self.tables[after])  # (T, V)
            fair = (rows(ids) + back) / 2
            swaps += 1
            told = after if self.classes is None else self.classes(ids, fair).long()
            if torch.equal(told, after):
                return fair, swapped, swaps
            after = told

    def unfairness(self, rows: Rows, ids: Tensor) -> float:
        """The largest difference between the logits of a text and those of the swapped text, swapped back.

        It is infinite if the text swapped twice is not the text.
        """
        fair, swapped, _ = self.fair(rows, ids)
        other, again, _ = self.fair(rows, swapped)
        if not torch.equal(again, ids):
            return float("inf")
        after = torch.zeros(len(ids), dtype=torch.long) if self.classes is None else self.classes(ids, fair).long()
        return float((other.gather(-1, self.tables[after]) - fair).abs().max())


def candidates(
    axis: DemographicAxis, tokenizer: Any, vocab_size: int, slots: Path, margin: float, limit: float | None
) -> dict[str, Candidate]:
    """The candidates that the documentation compares, by name.

    Args:
        axis: an axis of two, men first, with his/her among its lists.
        tokenizer: the model's.
        vocab_size: the size of the model's vocabulary.
        slots: a JSON-lines file of places of pronouns (text, start, determiner) that b learns from.
        margin: how much likelier c has to find *them* than *their*, in nats.
        limit: ``max_piece_share`` of `VocabularyAction.from_axes`; None: its own.
    """
    limits = {} if limit is None else {"max_piece_share": limit}

    def table(words: list[tuple[str, ...]]) -> Tensor:
        lists = replace(axis, words=words)
        action = VocabularyAction.from_axes(lists, tokenizer, vocab_size=vocab_size, unmappable="skip", **limits)
        return action.permutation[1].to(torch.get_default_device())  # (V,)

    words = [entry for entry in axis.words if tuple(entry) != ("his", "her")]
    without, listed = table(words), table([*words, ("his", "her")])
    other, canonical = without.clone(), torch.minimum(torch.arange(vocab_size), listed)
    for case in (str.lower, str.capitalize):
        his, him, her, hers = (_token(tokenizer, " " + case(word)) for word in ("his", "him", "her", "hers"))
        for first, second in ((him, her), (his, hers)):
            if first is not None and second is not None:
                other[first], other[second] = second, first
        one_orbit = [token for token in (his, him, her, hers) if token is not None]
        canonical[one_orbit] = min(one_orbit)
    both = torch.stack([listed, other])
    return {
        "without": Candidate(without.expand(2, -1)),
        "a": Candidate(listed.expand(2, -1)),
        "b": Candidate(both, _by_previous_token(slots, tokenizer, canonical), by_ids=True),
        "c": Candidate(both, _by_the_model(tokenizer, margin)),
    }


def _token(tokenizer: Any, text: str) -> int | None:
    ids = tokenizer.encode(text, add_special_tokens=False)
    return ids[0] if len(ids) == 1 else None


def _by_previous_token(slots: Path, tokenizer: Any, canonical: Tensor) -> Classes:
    """Class by the token before: the majority of the places seen after it; a determiner's where none was seen.

    All tokens that swaps turn into each other count as one, as the class must be the same for all texts of an orbit.
    """
    votes: Counter[int] = Counter()
    for line in slots.read_text("utf-8").splitlines():
        slot = json.loads(line)
        if before := tokenizer.encode(slot["text"][: slot["start"]].rstrip(), add_special_tokens=False)[-1:]:
            votes[int(canonical[before[0]])] += -1 if slot["determiner"] else 1
    others = torch.tensor(sorted(token for token, vote in votes.items() if vote > 0))
    return lambda ids, fair: torch.isin(canonical[ids], others)


def _by_the_model(tokenizer: Any, margin: float) -> Classes:
    """Class by the fair model, which finds *them* as likely in all texts of an orbit, and *their* too."""
    their, them = (tokenizer.encode(word, add_special_tokens=False)[0] for word in (" their", " them"))

    def classes(ids: Tensor, fair: Tensor | None) -> Tensor:
        assert fair is not None
        return fair[:, them] > fair[:, their] + margin

    return classes
