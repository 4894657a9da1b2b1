"""Splits like SCAN's that are made of the training pairs alone: on them settings are chosen, the test pairs unseen.

Validation pairs cannot choose between settings: they are like the training pairs, and any good model has nearly all of
them right. Here, as in the splits themselves, the tested commands combine what training has only apart.
"""

from collections.abc import Callable

from datasets import Dataset, DatasetDict

from equilm.scan import interpret, load_split

# Verbs of the pairs without "jump", renamed so that "look" plays the part of "jump", and "walk" that of "run".
_RENAMED = {"look": "jump", "walk": "run", "run": "walk"}
_SHARE_OF_JUMP = 0.1  # of the training pairs are the bare "jump", as in add_jump


def development_split(task: str) -> DatasetDict:
    """A split for the group of the ``task``, made of its training pairs.

    Args:
        task: ``"add_jump"`` gives one where only commands without "look" are trained on, and "look" alone, renamed so
            that "jump" is withheld; ``"around_right"`` one that withholds "opposite right".

    Returns:
        ``train`` and ``test``, as those of `equilm.scan.load_split`.
    """
    commands = list(load_split(task)["train"]["commands"])  # type: ignore[arg-type]
    train, test = _MAKERS[task](commands)
    parts = {"train": train, "test": test}
    return DatasetDict(
        {
            part: Dataset.from_dict({"commands": rows, "actions": list(map(interpret, rows))})
            for part, rows in parts.items()
        }
    )


def _add_jump(commands: list[str]) -> tuple[list[str], list[str]]:
    renamed = [
        " ".join(_RENAMED.get(word, word) for word in command.split()) for command in commands if "jump" not in command
    ]
    train, test = _partition(renamed, "jump")
    copies = round(len(train) * _SHARE_OF_JUMP / (1 - _SHARE_OF_JUMP))
    return ["jump"] * copies + train, [command for command in test if command != "jump"]


def _around_right(commands: list[str]) -> tuple[list[str], list[str]]:
    kept, _ = _partition(commands, "turn opposite right")  # as around_right leaves out "turn around right"
    return _partition(kept, "opposite right")


def _partition(commands: list[str], withheld: str) -> tuple[list[str], list[str]]:
    return [c for c in commands if withheld not in c], [c for c in commands if withheld in c]


_MAKERS: dict[str, Callable[[list[str]], tuple[list[str], list[str]]]] = {
    "add_jump": _add_jump,
    "around_right": _around_right,
}
