"""From words to tokens: the permutation of a tokenizer's ids that swaps the words of demographic axes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedTokenizerBase

from .._coverage import Coverage, general_token_ids, token_cycles, unmapped_sequences
from ..actions import TokenAction
from ..errors import EquiLMError
from .axes import AxisLike, DemographicAxis, load_axes
from .surface_forms import cover_axes
from .word_pieces import MAX_PIECE_SHARE


@dataclass(frozen=True, eq=False, kw_only=True)
class VocabularyAction(TokenAction):
    """The action of demographic axes on a tokenizer's ids: build it with `from_axes`.

    Args:
        axes: the axes; the group is the product of their factors.
        coverage: for each list and surface form whether it is swapped; what is swapped follows from it alone.
    """

    axes: tuple[DemographicAxis, ...]
    coverage: tuple[Coverage, ...]

    @classmethod
    def from_axes(
        cls,
        axes: AxisLike | Sequence[AxisLike],
        tokenizer: PreTrainedTokenizerBase,
        *,
        vocab_size: int | None = None,
        unmappable: Literal["raise", "skip"] = "raise",
        unmarked_lower: bool = False,
        max_piece_share: float | None = MAX_PIECE_SHARE,
    ) -> "VocabularyAction":
        """Map the words of one or several axes to tokens (paper, section 5.3).

        A word is swapped only in those surface forms in which every word of its list is one token of its own. A word is
        never represented by the first of several tokens: then swapping would not be a permutation.

        Args:
            axes: axes, built-in names or paths of JSON files, one or several. The group is the product of their
                factors: an axis is one, and a joint list belongs to several.
            tokenizer: the model's tokenizer.
            vocab_size: V, the size of the model's vocabulary, which may be padded; the tokenizer's own by default.
            unmappable: what to do with a list of which no form can be swapped: ``"raise"`` or ``"skip"``.
            unmarked_lower: swap lower-case words without a space before them too. Most of these tokens are pieces of
                other words, so that "manual" may become "womanual".
            max_piece_share: a form is left out if for one of its tokens more than this share of the token's uses are
                pieces of longer words, as *men* is of *men|acing*; None leaves none out. Measured with the 50,000 most
                frequent words of English.

        Raises:
            EquiLMError: for lists that cannot be mapped, axes with a word in common, and a tokenizer with more tokens
                than the model.
        """
        if unmappable not in ("raise", "skip"):
            raise EquiLMError(f"unmappable must be 'raise' or 'skip', got {unmappable!r}.")
        loaded = load_axes(axes)
        size = _checked_size(tokenizer, vocab_size)
        coverage = cover_axes(loaded, tokenizer, unmarked_lower=unmarked_lower, max_piece_share=max_piece_share)
        for axis in loaded:
            _check_mapped(axis, coverage, tokenizer, unmappable)
        cycles = token_cycles((axis.name for axis in loaded), coverage)
        factors = [axis.factors for axis in loaded]
        action = TokenAction.from_cycles(cycles, size, general_token_ids(coverage), factors)
        action.check()
        return cls(action.group, action.permutation, action.general_ids, axes=loaded, coverage=coverage)

    @property
    def cycles(self) -> tuple[tuple[tuple[int, ...], ...], ...]:
        """For each axis the lists of token ids it swaps, as `TokenAction.from_cycles` takes them."""
        return token_cycles((axis.name for axis in self.axes), self.coverage)

    @property
    def unmapped_sequences(self) -> tuple[tuple[int, ...], ...]:
        """The token ids of words that are not swapped in that form, for warning about prompts that hold no other."""
        return unmapped_sequences(self.coverage)

    def describe(self) -> str:
        """`coverage_table` of this action."""
        return coverage_table(self.coverage)


def _checked_size(tokenizer: PreTrainedTokenizerBase, vocab_size: int | None) -> int:
    largest = max(tokenizer.get_vocab().values())
    if vocab_size is None:
        return largest + 1
    if largest >= vocab_size:
        raise EquiLMError(
            f"The tokenizer {_name(tokenizer)} has token ids up to {largest}, but the model's vocabulary has "
            f"{vocab_size} tokens. Use the model's own tokenizer, or, if you added tokens, call "
            f"resize_token_embeddings({largest + 1}) on the model."
        )
    return vocab_size


def _check_mapped(
    axis: DemographicAxis, coverage: Sequence[Coverage], tokenizer: PreTrainedTokenizerBase, unmappable: str
) -> None:
    rows = [row for row in coverage if row.axis == axis.name and not row.general]
    mapped = {row.entry for row in rows if row.mapped}
    missing = [entry for entry in map(tuple, axis.words) if entry not in mapped]
    if not missing or (unmappable == "skip" and mapped):
        return
    first = {row.entry: row for row in reversed(rows)}  # the first form says it all: no form is mapped
    single = sorted({row.words[i] for row in rows if row.entry in missing for i in _singles(row)})
    remedies = "Use words that are one token each"
    if mapped:
        remedies += ", pass unmappable='skip' to leave such lists out"
    raise EquiLMError(
        f"{len(missing)} of {len(axis.words)} lists of axis {axis.name!r} cannot be mapped with the tokenizer "
        f"{_name(tokenizer)}, in upper or in lower case:\n"
        + "\n".join(f"  {' / '.join(entry)}: {first[entry].reason}" for entry in missing)
        + f"\nOf their forms these are single tokens: {', '.join(single) or 'none'}. {remedies}, or swap the words in "
        "text with TextSymmetrizer, which takes words of any length."
    )


def _singles(row: Coverage) -> list[int]:
    return [i for i, ids in enumerate(row.token_ids) if len(ids) == 1]


def _name(tokenizer: PreTrainedTokenizerBase) -> str:
    return f"{tokenizer.name_or_path!r} ({type(tokenizer).__name__})"


def coverage_table(coverage: Sequence[Coverage]) -> str:
    """A plain-text table of the words that a tokenizer has as single tokens, and why it does not have others.

    Args:
        coverage: the rows of `cover_axes` or of an action.

    Returns:
        For each axis a line of totals; for each list a line with its mapped forms and their token ids, and below it a
        line for each form that is not mapped.
    """
    lists: dict[tuple[str, bool], dict[tuple[str, ...], list[Coverage]]] = {}
    for row in coverage:
        lists.setdefault((row.axis, row.general), {}).setdefault(row.entry, []).append(row)
    lines: list[str] = []
    for (axis, general), entries in lists.items():
        mapped = sum(any(row.mapped for row in rows) for rows in entries.values())
        what = "general words" if general else "lists"
        lines.append(f"{axis}: {mapped} of {len(entries)} {what} mapped")
        width = max(len(" / ".join(entry)) for entry in entries)
        for entry, rows in entries.items():
            forms = [f"{row.variant} {'/'.join(str(ids[0]) for ids in row.token_ids)}" for row in rows if row.mapped]
            lines.append(f"  {' / '.join(entry):<{width}}  {', '.join(forms) or 'not mapped'}")
            lines += [f"  {'':<{width}}  not {row.variant}: {row.reason}" for row in rows if not row.mapped]
    return "\n".join(lines)
