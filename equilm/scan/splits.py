"""The splits of SCAN, generated from its grammar: no download, and the same pairs as in the official files."""

from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from ..errors import EquiLMError
from .language import all_commands, interpret

if TYPE_CHECKING:
    from datasets import DatasetDict

Split = Literal["simple", "add_jump", "around_right"]
SPLITS: tuple[str, ...] = get_args(Split)

_JUMP_COPIES = 1467  # the bare "jump" is a tenth of the official training file


def load_split(name: Split) -> "DatasetDict":
    """A split of SCAN (github.com/brendenlake/SCAN, commit c4b756c), equal to the official files up to the order.

    Args:
        name: ``"simple"``, a random 80/20 split (16728 and 4182 pairs); ``"add_jump"``, where "jump" occurs in training
            only on its own (14670 pairs, 1467 of them "jump", and 7706); ``"around_right"``, where "around right" does
            not occur in training (15225 and 4476; "turn around right" is in neither part).

    Returns:
        ``train`` and ``test``, each with the string columns ``commands`` and ``actions``.

    Raises:
        EquiLMError: for another name.

    Example:
        >>> load_split("add_jump")["train"][0]
        {'commands': 'jump', 'actions': 'I_JUMP'}
    """
    if name not in SPLITS:
        raise EquiLMError(f"{name!r} is not a split of SCAN: expected one of {', '.join(SPLITS)}.")
    return make_split(*_MAKERS[name](all_commands()))


def make_split(commands: Sequence[str], in_test: Callable[[str], bool]) -> "DatasetDict":
    """A split of your own: the commands to test on are withheld from training.

    Args:
        commands: commands of the language, such as `all_commands`; order and duplicates are kept.
        in_test: which commands to withhold.

    Returns:
        ``train`` and ``test``, as for `load_split`.

    Raises:
        EquiLMError: for a command that is not in the language.

    Example:
        >>> make_split(all_commands(), lambda command: "thrice" in command)["test"][0]
        {'commands': 'jump thrice', 'actions': 'I_JUMP I_JUMP I_JUMP'}
    """
    from datasets import Dataset, DatasetDict  # an optional dependency

    parts = {
        "train": [command for command in commands if not in_test(command)],
        "test": [command for command in commands if in_test(command)],
    }
    return DatasetDict(
        {
            part: Dataset.from_dict({"commands": rows, "actions": list(map(interpret, rows))})
            for part, rows in parts.items()
        }
    )


_Making = tuple[list[str], Callable[[str], bool]]  # commands, and which of them are tested


def _simple(commands: list[str]) -> _Making:
    # A random split has no rule: one bit for each command, in the order of `all_commands`, says if it is in test.
    packed = np.frombuffer(files(__package__).joinpath("simple_test.bin").read_bytes(), dtype=np.uint8)
    in_test = np.unpackbits(packed, count=len(commands)).astype(bool)
    return commands, dict(zip(commands, in_test, strict=True)).__getitem__


def _add_jump(commands: list[str]) -> _Making:
    copies = ["jump"] * (_JUMP_COPIES - 1)
    return copies + commands, lambda command: "jump" in command and command != "jump"


def _around_right(commands: list[str]) -> _Making:
    kept = [command for command in commands if "turn around right" not in command]
    return kept, lambda command: "around right" in command


_MAKERS = {"simple": _simple, "add_jump": _add_jump, "around_right": _around_right}
