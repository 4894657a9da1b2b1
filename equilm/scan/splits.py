"""The splits of SCAN, made from its grammar: nothing is downloaded, and the pairs are those of the official files."""

from collections.abc import Callable
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
    """A split of SCAN (github.com/brendenlake/SCAN, commit c4b756c), equal to the official files up to their order.

    Args:
        name: ``"simple"``, a random 80/20 split (16728 and 4182 pairs); ``"add_jump"``, where training has "jump"
            alone and never in a longer command (14670 and 7706, of the former 1467 are "jump"); ``"around_right"``,
            where training never has "around right" (15225 and 4476; "turn around right" is in neither part).

    Returns:
        ``train`` and ``test``, each with the string columns ``commands`` and ``actions``.

    Raises:
        EquiLMError: for another name.

    Example:
        >>> load_split("add_jump")["train"][0]
        {'commands': 'jump', 'actions': 'I_JUMP'}
    """
    from datasets import Dataset, DatasetDict  # an optional dependency

    if name not in SPLITS:
        raise EquiLMError(f"{name!r} is not a split of SCAN: expected one of {', '.join(SPLITS)}.")
    train, test = _MAKERS[name](all_commands())
    parts = {"train": train, "test": test}
    return DatasetDict(
        {
            part: Dataset.from_dict({"commands": commands, "actions": [interpret(command) for command in commands]})
            for part, commands in parts.items()
        }
    )


def _simple(commands: list[str]) -> tuple[list[str], list[str]]:
    # A random split has no rule: one bit for each command, in the order of `all_commands`, says if it is in test.
    packed = np.frombuffer(files(__package__).joinpath("simple_test.bin").read_bytes(), dtype=np.uint8)
    in_test = np.unpackbits(packed, count=len(commands)).astype(bool)
    return _partition(commands, dict(zip(commands, in_test, strict=True)).__getitem__)


def _add_jump(commands: list[str]) -> tuple[list[str], list[str]]:
    train, test = _partition(commands, lambda command: "jump" in command and command != "jump")
    return ["jump"] * (_JUMP_COPIES - 1) + train, test


def _around_right(commands: list[str]) -> tuple[list[str], list[str]]:
    kept = [command for command in commands if "turn around right" not in command]
    return _partition(kept, lambda command: "around right" in command)


def _partition(commands: list[str], in_test: Callable[[str], bool]) -> tuple[list[str], list[str]]:
    return [c for c in commands if not in_test(c)], [c for c in commands if in_test(c)]


_MAKERS = {"simple": _simple, "add_jump": _add_jump, "around_right": _around_right}
