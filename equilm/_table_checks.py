"""Is a table the right one: for the model's vocabulary, for the tokenizer, for the words it is said to swap?"""

from collections.abc import Callable, Sequence
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedModel
from transformers.utils.hub import cached_file

from ._coverage import Coverage
from ._factors import flat_words
from .actions import TokenAction
from .errors import EquiLMError

_REMEDY = "Get the repository anew, or wrap the base model again with EquiLMForCausalLM.from_base."


def check_table(model: PreTrainedModel, action: TokenAction) -> None:
    """Refuse a table for a vocabulary of another size than the model's.

    Raises:
        EquiLMError: names both sizes.
    """
    vocab_size = model.config.get_text_config().vocab_size
    if action.vocab_size != vocab_size:
        raise EquiLMError(
            f"The table permutes {action.vocab_size} tokens, but {type(model).__name__} has {vocab_size}. Build it "
            f"with VocabularyAction.from_axes(axes, tokenizer, vocab_size={vocab_size})."
        )


def check_tokenizer(name: str, decode: Callable[[list[int]], Any], coverage: Sequence[Coverage]) -> None:
    """Refuse a tokenizer with other tokens than the one the words were mapped with.

    Args:
        name: the tokenizer's name, for the message.
        decode: turns token ids into text.
        coverage: ``EquiLMConfig.coverage``.

    Raises:
        EquiLMError: names the first word whose token is another.
    """
    for row in coverage:
        for word, ids in zip(row.words, row.token_ids, strict=True):
            if not row.mapped:
                continue
            text = str(decode(list(ids)))
            if text.strip().casefold() != word.casefold():
                raise EquiLMError(
                    f"The tokenizer {name!r} does not match the model's table: token {ids[0]} is {text!r}, where "
                    f"{word!r} was mapped. Use the tokenizer that the model was wrapped with, or wrap the model again."
                )


def check_repository(name_or_path: str, coverage: Sequence[Coverage], **hub_kwargs: Any) -> None:
    """Refuse a repository whose tokenizer has other tokens than its table was made for.

    Args:
        name_or_path: a Hub id or folder. One without ``tokenizer.json`` cannot be checked here.
        coverage: ``EquiLMConfig.coverage``.
        hub_kwargs: those of ``from_pretrained`` that say where the files are.

    Raises:
        EquiLMError: as `check_tokenizer`.
    """
    names = {"cache_dir", "local_files_only", "proxies", "revision", "subfolder", "token"}
    try:
        file = cached_file(name_or_path, "tokenizer.json", **{k: v for k, v in hub_kwargs.items() if k in names})
    except OSError:  # raised by transformers for a missing file
        return
    check_tokenizer(str(name_or_path), Tokenizer.from_file(str(file)).decode, coverage)


def check_coverage(axes: Sequence[dict[str, Any]], coverage: Sequence[Coverage]) -> None:
    """Refuse a configuration whose coverage is not about the words it shows to its readers.

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
