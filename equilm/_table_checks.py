"""Is a table the right one: for the model's vocabulary, for the tokenizer, for the words it is said to swap?"""

from collections.abc import Callable, Sequence
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedModel
from transformers.utils.hub import cached_file

from ._coverage import Coverage, surface_forms
from .actions import TokenAction
from .errors import EquiLMError

_REMEDY = "Download the repository again, or wrap the base model again with EquiLMForCausalLM.from_base."


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
        EquiLMError: names the first word whose token is another, or the form that the coverage leaves out.
    """
    for row in coverage:
        for word, ids in zip(row.words, row.token_ids, strict=True):
            if not row.mapped:
                continue
            text = str(decode(list(ids)))
            found = text.strip()
            # Upper and lower case are the same only to a tokenizer that lower-cases what it reads.
            if found != word and not (found.casefold() == word.casefold() and encode(found) == encode(word)):
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
            # A form with the tokens of another, as where the tokenizer lower-cases, has no row of its own.
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
    """Refuse a repository whose tokenizer has other tokens than its table was made for.

    Args:
        name_or_path: a Hub id or folder. One without ``tokenizer.json`` cannot be checked here.
        coverage: ``EquiLMConfig.coverage``.
        hub_kwargs: arguments of ``from_pretrained``, of which those that say where the files are count.

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
    listed = {(axis["name"], False, tuple(entry)) for axis in axes for entry in axis["words"]}
    listed |= {(axis["name"], True, (word,)) for axis in axes for word in axis["general_words"]}
    if differing := listed ^ {(row.axis, row.general, row.entry) for row in coverage}:
        axis, _, entry = min(differing)
        raise EquiLMError(
            f"Axis {axis!r} and its coverage differ: {'/'.join(entry)!r} is in only one of them. {_REMEDY}"
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
