"""Is a table the right one: for the model's vocabulary, for the tokenizer, for the words it is said to swap?"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedModel
from transformers.utils.hub import cached_file

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


def check_tokenizer(name: str, decode: Callable[[list[int]], Any], coverage: Sequence[dict[str, Any]]) -> None:
    """Refuse a tokenizer with other tokens than the one the words were mapped with.

    Args:
        name: the tokenizer's name, for the message.
        decode: from token ids to text.
        coverage: ``EquiLMConfig.coverage``.

    Raises:
        EquiLMError: names the first word whose token is another.
    """
    for row in coverage:
        for word, ids in zip(row["words"], row["token_ids"], strict=True):
            if not row["mapped"]:
                continue
            text = str(decode(list(ids)))
            if text.strip().casefold() != word.casefold():
                raise EquiLMError(
                    f"The tokenizer {name!r} does not match the model's table: token {ids[0]} is {text!r}, where "
                    f"{word!r} was mapped. Use the tokenizer that the model was wrapped with, or wrap the model again."
                )


def check_repository(name_or_path: str, coverage: Sequence[dict[str, Any]], **hub_kwargs: Any) -> None:
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
    except OSError:  # transformers' word for a file that is not there
        return
    check_tokenizer(str(name_or_path), Tokenizer.from_file(str(file)).decode, coverage)


def check_lists(
    axes: Sequence[dict[str, Any]],
    coverage: Sequence[dict[str, Any]],
    cycles: Sequence[Sequence[Sequence[int]]],
    general_ids: Iterable[int],
) -> None:
    """Refuse a configuration whose token lists are not those of the words it shows to its readers.

    Args:
        axes: ``EquiLMConfig.axes``.
        coverage: ``EquiLMConfig.coverage``.
        cycles: ``EquiLMConfig.cycles``.
        general_ids: ``EquiLMConfig.general_ids``.

    Raises:
        EquiLMError: names the axis and what differs.
    """
    if len(axes) != len(cycles):
        raise EquiLMError(f"The configuration has {len(axes)} axes, but lists for {len(cycles)}. {_REMEDY}")
    for axis, lists in zip(axes, cycles, strict=True):
        rows = [row for row in coverage if row["axis"] == axis["name"] and not row["general"]]
        shown = {tuple(ids[0] for ids in row["token_ids"]) for row in rows if row["mapped"]}
        if differing := shown ^ {tuple(ids) for ids in lists}:
            raise EquiLMError(
                f"The table of axis {axis['name']!r} swaps other tokens than its coverage says: {list(min(differing))} "
                f"is in one of the two only. {_REMEDY}"
            )
        _check_words(axis["name"], axis["words"], rows)
    general = [row for row in coverage if row["general"]]
    for axis in axes:
        own = [row for row in general if row["axis"] == axis["name"]]
        _check_words(axis["name"], [[word] for word in axis["general_words"]], own)
    shown_ids = {ids[0] for row in general if row["mapped"] for ids in row["token_ids"]}
    if shown_ids != set(general_ids):
        raise EquiLMError(
            f"The general token ids differ from those the coverage shows in {sorted(shown_ids ^ set(general_ids))}. "
            f"{_REMEDY}"
        )


def _check_words(axis: str, lists: Sequence[Sequence[str]], rows: Sequence[dict[str, Any]]) -> None:
    listed, covered = {tuple(words) for words in lists}, {tuple(row["entry"]) for row in rows}
    if listed != covered:
        odd = "/".join(next(iter(listed ^ covered)))
        raise EquiLMError(f"Axis {axis!r} and its coverage differ: {odd!r} is in one of the two only. {_REMEDY}")
    for row in rows:
        if [word.casefold() for word in row["words"]] != [word.casefold() for word in row["entry"]]:
            written, entry = "/".join(row["words"]), "/".join(row["entry"])
            raise EquiLMError(f"Axis {axis!r}: the coverage shows {written!r} as a form of {entry!r}. {_REMEDY}")
