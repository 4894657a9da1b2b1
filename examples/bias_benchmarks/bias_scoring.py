"""Log-probabilities of a benchmark's texts under the plain model, EquiLM, and the sequence level, in shared passes.

The sequence level is that of text, log Q(Y|X) = logsumexp_g log P(gY|gX) - log|G|: exact, no samples. It swaps words of
any length and pronouns by their place, as the gateway does; EquiLM swaps single tokens.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from bias_items import Item, Text
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from equilm import EquiLMError, EquiLMForCausalLM
from equilm.metrics.shared_rows import SharedRows, share_rows
from equilm.text import TextAction
from equilm.text.pronoun_rules import is_determiner
from equilm.words import DemographicAxis

LEVELS = ("plain", "token", "sequence")
_MENTION = re.compile(r"’ refers to the\b")
_SHOWN = re.compile(r"\bher\b", re.IGNORECASE)  # how every pronoun of these looks to a judge

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Scores:
    """What is kept of an item: no texts, only numbers.

    Args:
        log_probs: for each level, the log-probability of each text in nats. A level that an axis does not have is left
            out: the token level, if the tokenizer has none of the axis's lists as single tokens.
        lengths: for each level, the number of scored tokens of each text; at the sequence level the mean over its
            images, so that it is the same for all of them.
        moved: for each fair level, whether the axes' words stand in any of the texts.
        swaps: for each fair level, whether one element of the group turns the first text of each pair into the second.
    """

    log_probs: Mapping[str, Sequence[float]]
    lengths: Mapping[str, Sequence[float]]
    moved: Mapping[str, bool]
    swaps: Mapping[str, bool]

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Row:
    """A text as tokens: those from ``start`` on are scored."""

    ids: Ids
    start: int

    @property
    def read(self) -> Ids:
        """What the model reads: the last token is only predicted."""
        return self.ids[:-1]


class Scorer:
    """Scores items with one set of axes.

    Args:
        base: the plain model, in evaluation mode.
        tokenizer: its tokenizer.
        axes: the axes, whose product is the group.
        batch_size: the number of rows that the model runs at once.

    Raises:
        EquiLMError: for an encoder-decoder, and for a tokenizer without a token to begin a text with.
    """

    def __init__(
        self,
        base: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        axes: Sequence[str | DemographicAxis],
        batch_size: int = 32,
    ):
        self.base, self.tokenizer, self.batch_size = base, tokenizer, batch_size
        self.text_action = TextAction(list(axes), pronouns=judge_mentions)
        self.fair: EquiLMForCausalLM | None = None
        self.refusal = ""
        try:
            self.fair = EquiLMForCausalLM.from_base(base, tokenizer, axes=list(axes)).eval()
        except EquiLMError as error:
            if "cannot be mapped" not in str(error):
                raise
            self.refusal = str(error).splitlines()[0]
        self._table = None if self.fair is None else self.fair.action.permutation.cpu()  # (|G|, V)
        marked = tokenizer("a", return_special_tokens_mask=True)
        special = marked["special_tokens_mask"]
        self._prefix: Ids = tuple(marked["input_ids"][: special.index(0)])
        first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        if first is None:
            raise EquiLMError(
                f"{type(tokenizer).__name__} has neither a beginning- nor an end-of-text token, so the first token of "
                "a sentence has no probability. Set tokenizer.eos_token."
            )
        # As lm-evaluation-harness: without any context, this token stands before the text.
        self._start: Ids = self._prefix or (first,)

    @torch.no_grad()
    def scores(self, items: Sequence[Item]) -> list[Scores]:
        """The scores of some items, whose rows are run once for all levels. Items of like length save padding."""
        group = self.text_action.group
        images = [[[self.image(text, g) for g in group.elements] for text in item.texts] for item in items]
        # (items, texts, |G|); the element 0 is the text itself
        rows = [[[self.row(image) for image in orbit] for orbit in texts] for texts in images]
        plain = {row: 0.0 for texts in rows for orbit in texts for row in orbit}
        fair = {orbit[0]: 0.0 for texts in rows for orbit in texts}
        width = max(len(row.read) for row in plain)
        with share_rows(self.base) as shared:
            plain = self._run(self.base, plain, width, shared)
            # Also where no token is moved: the mean of the logits of *he* and *she* changes the share of all others.
            fair = {} if self.fair is None else self._run(self.fair, fair, width, shared)
        found = []
        for item, texts, item_images in zip(items, rows, images, strict=True):
            own = [orbit[0] for orbit in texts]
            orbits = torch.tensor([[plain[row] for row in orbit] for orbit in texts], dtype=torch.float64)
            log_probs = {
                "plain": [plain[row] for row in own],
                "sequence": (orbits.logsumexp(1) - math.log(group.order)).tolist(),
            }
            lengths = {
                "plain": [float(len(row.ids) - row.start) for row in own],
                "sequence": [sum(len(row.ids) - row.start for row in orbit) / group.order for orbit in texts],
            }
            moved = {"sequence": any(image != orbit[0] for orbit in item_images for image in orbit)}
            swaps = {"sequence": self._is_text_swap(item)}
            if self.fair is not None:
                log_probs["token"] = [fair[row] for row in own]
                lengths["token"] = lengths["plain"]
                moved["token"] = any(self._is_moved(row.ids) for row in own)
                swaps["token"] = self._is_token_swap(item)
            found.append(Scores(log_probs, lengths, moved, swaps))
        return found

    def image(self, text: Text, g: int) -> Text:
        """``g·text``."""
        act = self.text_action
        return Text(act.act(text.context, g), act.act_on_continuation(text.context, text.continuation, g))

    def row(self, text: Text) -> Row:
        """A text as tokens, cut where lm-evaluation-harness cuts it."""
        if not text.context:
            return Row(self._start + self._ids(text.continuation), len(self._start))
        start = len(self._prefix) + len(self._ids(text.context))
        return Row(self._prefix + self._ids(text.context + text.continuation), start)

    def _ids(self, text: str) -> Ids:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _is_moved(self, ids: Ids) -> bool:
        return self._table is not None and bool((self._table[:, list(ids)] != torch.tensor(ids)).any())

    def _is_token_swap(self, item: Item) -> bool:
        assert self._table is not None, "asked only at the token level"
        pairs = [(self.row(one).ids, self.row(other).ids) for one, other in item.pairs]
        return any(all(tuple(images[list(one)].tolist()) == other for one, other in pairs) for images in self._table)

    def _is_text_swap(self, item: Item) -> bool:
        elements = self.text_action.group.elements
        return any(all(self.image(one, g) == other for one, other in item.pairs) for g in elements)

    def _run(self, model: Any, rows: Iterable[Row], width: int, shared: SharedRows) -> dict[Row, float]:
        """log P of each row's scored tokens. Rows that read the beginning of what another one reads share its pass."""
        owners = _owners({row.read for row in rows})
        readers: dict[Ids, list[Row]] = {}
        for row in rows:
            readers.setdefault(owners[row.read], []).append(row)
        found: dict[Row, float] = {}
        # The longest common end of the rows whose logits are needed decides which are computed.
        ordered = sorted(readers, key=lambda ids: min(row.start for row in readers[ids]))
        for batch in _batches(ordered, self.batch_size):
            # What stands on the right is not seen by what stands before it: no mask is needed.
            ids = torch.tensor([[*read, *[self._start[0]] * (width - len(read))] for read in batch])
            kept = width - min(row.start for read in batch for row in readers[read]) + 1
            logits = model(input_ids=ids.to(self.base.device), use_cache=False, logits_to_keep=kept).logits
            for read, scored in zip(batch, logits, strict=True):
                for row in readers[read]:
                    found[row] = self._log_prob(row, scored, width - kept)
        return found

    @staticmethod
    def _log_prob(row: Row, logits: Tensor, first: int) -> float:
        """log P of a row's scored tokens from the logits ``(positions, V)`` of a row from position ``first`` on."""
        needed = logits[row.start - 1 - first : len(row.ids) - 1 - first]
        log_probs = needed.to(torch.promote_types(needed.dtype, torch.float32)).log_softmax(-1)
        targets = torch.tensor(row.ids[row.start :], device=logits.device)
        total = log_probs.gather(-1, targets[:, None]).double().sum().item()
        if not math.isfinite(total):
            raise EquiLMError(f"The log-probability of a text is {total}. Load the model in float32: --dtype float32.")
        return total


def judge_mentions(before: str, after: str) -> bool:
    """Whether a pronoun's place is a determiner's.

    A pronoun that is quoted, as in *‘Her’ refers to the*, counts as it does in its sentence, so that the question about
    *his* becomes the one about *her*.
    """
    if _MENTION.match(after):
        places = list(_SHOWN.finditer(before))
        if places:
            return is_determiner(before[: places[0].start()], before[places[0].end() :])
    return is_determiner(before, after)


def _owners(rows: Iterable[Ids]) -> dict[Ids, Ids]:
    """For each of some sequences, the longest one that begins with it."""
    owners: dict[Ids, Ids] = {}
    following: Ids = ()
    for row in sorted(rows, reverse=True):  # what begins with a sequence stands right behind it, here before it
        owners[row] = owners[following] if following[: len(row)] == row else row
        following = row
    return owners


def _batches(rows: Sequence[Ids], size: int) -> Iterator[Sequence[Ids]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
