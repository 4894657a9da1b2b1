"""Which words a tokenizer has as single tokens, the token lists that follow, and checks that they fit the model."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from unicodedata import combining, normalize

from tokenizers import Tokenizer
from transformers import PreTrainedModel
from transformers.utils.hub import cached_file

from .actions import TokenAction
from .errors import EquiLMError

# The sign before a word here: no tokenizer merges it with the text after it, as some do with whole words.
ANCHOR = "#"
_REMEDY = "Download the repository again, or wrap the base model again with EquiLMForCausalLM.from_base."


class SurfaceForm(NamedTuple):
    """One way to write the words of a list.

    Attributes:
        variant: ``"lower"``, ``"title"``, ``"upper"`` (or ``"written"`` for a list of mixed case) after a space;
            ``"start"`` at the start of a text and ``"newline"`` after a newline, both in title case;
            ``"unmarked"`` and ``"unmarked_newline"`` the same two places in lower case.
        words: the words, all in this form.
        before: the text before the word.
        space: the text between the two: a space, or nothing.
    """

    variant: str
    words: tuple[str, ...]
    before: str
    space: str


def surface_forms(words: Sequence[str], unmarked_lower: bool = False) -> list[SurfaceForm]:
    """The forms of a list. A word in lower case also has title and upper case; a word with capitals keeps them.

    Args:
        words: the list as it is written in its axis.
        unmarked_lower: also the lower case without a space before it, which is mostly a piece of another word.

    Example:
        >>> [(form.variant, form.words[0]) for form in surface_forms(["man", "woman"])]
        [('lower', 'man'), ('title', 'Man'), ('upper', 'MAN'), ('start', 'Man'), ('newline', 'Man')]
        >>> [(form.variant, form.words[0]) for form in surface_forms(["Black", "White"])]
        [('title', 'Black'), ('upper', 'BLACK'), ('start', 'Black'), ('newline', 'Black')]
    """
    written, titled = tuple(words), tuple(map(_title, words))
    variants = {  # if two forms coincide, the later name is used
        written: "lower" if all(word.islower() for word in words) else "written",
        titled: "title",
        tuple(word.upper() for word in words): "upper",
    }
    forms = [SurfaceForm(variant, form, ANCHOR, " ") for form, variant in variants.items()]
    forms += [SurfaceForm("start", titled, "", ""), SurfaceForm("newline", titled, f"{ANCHOR}\n", "")]
    if unmarked_lower and written != titled:
        forms += [
            SurfaceForm("unmarked", written, "", ""),
            SurfaceForm("unmarked_newline", written, f"{ANCHOR}\n", ""),
        ]
    return forms


def _title(word: str) -> str:
    return word[0].upper() + word[1:] if word.islower() else word


@dataclass(frozen=True)
class Coverage:
    """Whether one surface form of a word list, or of a general word, is swapped.

    Attributes:
        axis: the axis's name.
        entry: the list as the axis writes it; for a general word, that word alone.
        words: the list in this form.
        variant: the form: ``"lower"``, ``"title"``, ``"upper"``, ``"start"``, … (see `SurfaceForm`).
        token_ids: the token ids of each word; empty if the tokenizer has no separate tokens for it.
        mapped: whether these words are swapped; for a general word, whether its token is a general id.
        reason: why they are not swapped; ``""`` if they are.
        general: whether this is one of R-EquiLM's general words.
    """

    axis: str
    entry: tuple[str, ...]
    words: tuple[str, ...]
    variant: str
    token_ids: tuple[tuple[int, ...], ...]
    mapped: bool
    reason: str = ""
    general: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The row as plain lists, strings and numbers, for JSON."""
        rows = {
            "entry": list(self.entry),
            "words": list(self.words),
            "token_ids": [list(ids) for ids in self.token_ids],
        }
        return {**vars(self), **rows}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Coverage":
        """Read back what `to_dict` wrote.

        Raises:
            KeyError: if a field is missing.
            TypeError: if a field has the wrong type or an unknown name.
        """
        lists = {
            "entry": tuple(data["entry"]),
            "words": tuple(data["words"]),
            "token_ids": tuple(tuple(ids) for ids in data["token_ids"]),
        }
        required = {name: data[name] for name in ("reason", "general")}  # a file has every field
        return cls(**{**data, **required, **lists})


def token_cycles(axes: Iterable[str], coverage: Sequence[Coverage]) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """The lists of token ids of each axis, as `TokenAction.from_cycles` takes them.

    Args:
        axes: the axes' names.
        coverage: the rows of these axes.
    """
    rows = [row for row in coverage if row.mapped and not row.general]
    return tuple(tuple(tuple(ids[0] for ids in row.token_ids) for row in rows if row.axis == axis) for axis in axes)


def axis_factors(axis: Mapping[str, Any]) -> dict[str, int]:
    """The factors of the group that move an axis's words, with their sizes: its own, or those of a joint list.

    Args:
        axis: an axis as `DemographicAxis.to_dict` writes it; the lists of a joint one are nested.
    """
    factors, words = {}, axis["words"][0]
    for name in axis.get("axes") or [axis["name"]]:
        factors[name], words = len(words), words[0]
    return factors


def general_token_ids(coverage: Iterable[Coverage]) -> tuple[int, ...]:
    """The token ids of R-EquiLM's general words, ascending."""
    return tuple(sorted({ids[0] for row in coverage if row.general and row.mapped for ids in row.token_ids}))


def unmapped_sequences(coverage: Sequence[Coverage]) -> tuple[tuple[int, ...], ...]:
    """The token ids of words in forms that are not swapped; a prompt with only such words gets a warning."""
    rows = [row for row in coverage if not row.general]
    swapped = {ids for row in rows if row.mapped for ids in row.token_ids}
    sequences = {ids: None for row in rows if not row.mapped for ids in row.token_ids}  # a set that keeps its order
    return tuple(ids for ids in sequences if ids and ids not in swapped)


def flat_words(entry: Sequence[Any]) -> tuple[str, ...]:
    """The words of a list, row-major, as a JSON file has them: nested for a joint list."""
    return tuple(word for part in entry for word in ((part,) if isinstance(part, str) else flat_words(part)))


def check_table(model: PreTrainedModel, action: TokenAction) -> None:
    """Refuse a table whose vocabulary does not have the model's size.

    Raises:
        EquiLMError: names both sizes.
    """
    vocab_size = model.config.get_text_config().vocab_size
    if action.vocab_size != vocab_size:
        raise EquiLMError(
            f"The table permutes {action.vocab_size} tokens, but {type(model).__name__} has {vocab_size}. Build it "
            f"with VocabularyAction.from_axes(axes, tokenizer, vocab_size={vocab_size})."
        )


def _folded(text: str) -> str:
    """A text without case and accents."""
    return "".join(letter for letter in normalize("NFD", text) if not combining(letter)).casefold()


def check_tokenizer(
    name: str, decode: Callable[[list[int]], Any], encode: Callable[[str], list[int]], coverage: Sequence[Coverage]
) -> None:
    """Refuse a tokenizer with other tokens than the one the words were mapped with.

    Args:
        name: the tokenizer's name, for the message.
        decode: turns token ids into text.
        encode: turns text into token ids, without special tokens.
        coverage: ``EquiLMConfig.coverage``.

    Raises:
        EquiLMError: names the first word with another token, or the form that the coverage leaves out.
    """
    for row in coverage:
        for word, ids in zip(row.words, row.token_ids, strict=True):
            if not row.mapped:
                continue
            text = str(decode(list(ids)))
            found = text.strip()
            # Case and accents are the same only to a tokenizer that takes them off what it reads, as BERT's does.
            if found != word and not (_folded(found) == _folded(word) and encode(found) == encode(word)):
                raise EquiLMError(
                    f"The tokenizer {name!r} does not match the model's table: token {ids[0]} is {text!r}, where "
                    f"{word!r} was mapped. Use the tokenizer that the model was wrapped with, or wrap the model again."
                )
    _check_forms(name, decode, encode, coverage)


def _check_forms(
    name: str, decode: Callable[[list[int]], Any], encode: Callable[[str], list[int]], coverage: Sequence[Coverage]
) -> None:
    """Refuse a coverage without a form that the tokenizer has as single tokens: those words would not be swapped."""
    lists: dict[tuple[str, bool, tuple[str, ...]], list[Coverage]] = {}
    for row in coverage:
        lists.setdefault((row.axis, row.general, row.entry), []).append(row)
    unmarked_lower = any(row.variant.startswith("unmarked") for row in coverage)
    for (axis, _, entry), rows in lists.items():
        listed, known = {(row.variant, row.words) for row in rows}, {row.token_ids for row in rows}
        for form in surface_forms(entry, unmarked_lower):
            if (form.variant, form.words) in listed:
                continue
            # A form with the tokens of another, for instance because the tokenizer lower-cases, has no row of its own.
            before = encode(form.before)
            spelled = [encode(form.before + form.space + word) for word in form.words]
            tokens = tuple(tuple(ids[len(before) :]) for ids in spelled)
            single = all(ids[:-1] == before for ids in spelled) and len(set(tokens)) == len(tokens)
            if single and tokens not in known:
                texts = [str(decode(list(ids))).strip() for ids in tokens]
                if texts == list(form.words):
                    raise EquiLMError(
                        f"Axis {axis!r}: the tokenizer {name!r} has {'/'.join(form.words)!r} as single tokens "
                        f"({form.variant}), but the coverage leaves out that form of {'/'.join(entry)!r}. {_REMEDY}"
                    )


def check_repository(name_or_path: str, coverage: Sequence[Coverage], **hub_kwargs: Any) -> None:
    """Refuse a repository whose tokenizer does not have the tokens that its table was made for.

    Args:
        name_or_path: a Hub id or folder; without ``tokenizer.json`` it cannot be checked here.
        coverage: ``EquiLMConfig.coverage``.
        hub_kwargs: arguments of ``from_pretrained``; those that say where the files are are used.

    Raises:
        EquiLMError: as `check_tokenizer`.
    """
    names = {"cache_dir", "local_files_only", "proxies", "revision", "subfolder", "token"}
    try:
        file = cached_file(name_or_path, "tokenizer.json", **{k: v for k, v in hub_kwargs.items() if k in names})
    except OSError:  # raised by transformers for a missing file
        return
    tokenizer = Tokenizer.from_file(str(file))

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    check_tokenizer(str(name_or_path), tokenizer.decode, encode, coverage)


def check_coverage(axes: Sequence[dict[str, Any]], coverage: Sequence[Coverage]) -> None:
    """Refuse a configuration whose coverage does not match the words of its axes.

    Args:
        axes: ``EquiLMConfig.axes``.
        coverage: ``EquiLMConfig.coverage``.

    Raises:
        EquiLMError: names the axis and what differs.
    """
    listed = {(axis["name"], False, flat_words(entry)) for axis in axes for entry in axis["words"]}
    listed |= {(axis["name"], True, (word,)) for axis in axes for word in axis["general_words"]}
    if differing := listed ^ {(row.axis, row.general, row.entry) for row in coverage}:
        axis_name, _, odd = min(differing)
        raise EquiLMError(
            f"Axis {axis_name!r} and its coverage differ: {'/'.join(odd)!r} is in only one of them. {_REMEDY}"
        )
    for row in coverage:
        written, entry = "/".join(row.words), "/".join(row.entry)
        if written.casefold() != entry.casefold():
            raise EquiLMError(f"Axis {row.axis!r}: the coverage shows {written!r} as a form of {entry!r}. {_REMEDY}")
        single = len(row.token_ids) == len(row.words) and all(len(ids) == 1 for ids in row.token_ids)
        consistent = (single and not row.reason) if row.mapped else bool(row.reason)
        if not consistent:
            raise EquiLMError(
                f"Axis {row.axis!r}: the coverage says mapped={row.mapped} of {written!r} with the token ids "
                f"{[list(ids) for ids in row.token_ids]} and the reason {row.reason!r}, which contradict one another. "
                f"{_REMEDY}"
            )
