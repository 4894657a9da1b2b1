"""Splits like SCAN's, made only of the training pairs, for choosing settings without the test pairs.

Validation pairs cannot tell settings apart: they are like the training pairs, and any good model gets nearly all of
them right. Here, as in the splits themselves, the tested commands combine words that training only has apart.
"""

from collections.abc import Callable

from datasets import DatasetDict

from equilm.scan import load_split, make_split

# Verbs of the pairs without "jump", renamed so that "look" plays the part of "jump", and "walk" that of "run".
_RENAMED = {"look": "jump", "walk": "run", "run": "walk"}
_SHARE_OF_JUMP = 0.1  # the share of the bare "jump" in the training pairs, as in add_jump


def development_split(task: str) -> DatasetDict:
    """A split for the group of the ``task``, made of its training pairs.

    Args:
        task: ``"add_jump"`` leaves out the commands with "jump" and withholds those that combine "look" with other
            words, with "look" renamed to "jump"; ``"around_right"`` withholds "opposite right".

    Returns:
        ``train`` and ``test``, as from `equilm.scan.load_split`.
    """
    return _MAKERS[task](list(load_split(task)["train"]["commands"]))  # type: ignore[arg-type]


def _add_jump(commands: list[str]) -> DatasetDict:
    renamed = [
        " ".join(_RENAMED.get(word, word) for word in command.split()) for command in commands if "jump" not in command
    ]
    others = sum("jump" not in command for command in renamed)
    copies = round(others * _SHARE_OF_JUMP / (1 - _SHARE_OF_JUMP)) - 1  # the bare "jump" is among the renamed
    return make_split(["jump"] * copies + renamed, lambda command: "jump" in command and command != "jump")


def _around_right(commands: list[str]) -> DatasetDict:
    # As around_right leaves out "turn around right".
    kept = [command for command in commands if "turn opposite right" not in command]
    return make_split(kept, lambda command: "opposite right" in command)


_MAKERS: dict[str, Callable[[list[str]], DatasetDict]] = {"add_jump": _add_jump, "around_right": _around_right}
