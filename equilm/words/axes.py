"""Demographic axes: the lists of words that name the groups of one attribute, built in or read from a JSON file."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import Any

from ..errors import EquiLMError
from ..groups import Factors
from . import axis_checks as checks

BUILT_IN_AXES = (
    "gender",
    "race",
    "race3",
    "race4",
    "orientation",
    "religion",
    "age",
    "nationality",
    "disability",
    "body",
    "status",
    "names",
    "gender-paper",
    "gender-paper-without-his",
    "race-paper",
    "orientation-paper",
)
_KEYS = ("$schema", "name", "axes", "words", "modifiers", "before", "general_words", "notes")


@dataclass(frozen=True)
class DemographicAxis:
    """One attribute, such as gender, and the words that stand for its groups (E and G of section 5.3).

    Args:
        name: what the axis is called.
        words: lists of d words each, one for each group and always in the same order:
            ``[("man", "woman"), ("he", "she")]``. The group's generator turns each word into the next of its list.
            Write ordinary words in lower case; a word written with capitals is never matched in lower case.
            After construction a joint list is one tuple too, row-major.
        general_words: words that R-EquiLM leaves alone. They may stand in ``words`` too.
        notes: for people who read the file.
        axes: for *joint lists*, such as first names, the two or more axes whose members index the words. Each list is
            then nested, shape ``(d1, d2, …)``: ``list[i][j]`` is for member i of the first axis and j of the second;
            each index is moved by its own axis's group.
        modifiers: lists like ``words`` that are swapped only where one of ``before`` follows, such as black and white
            before *people*. Text only: a token is chosen before the next word is known.
        before: the words that may follow a modifier, in lower case.

    Raises:
        EquiLMError: for anything else; the message names the value, what was expected and what to do.

    Example:
        >>> DemographicAxis("gender", [("man", "woman"), ("he", "she")]).size
        2
        >>> names = DemographicAxis("names", [(("Jamal", "Greg"), ("Lakisha", "Emily"))], axes=("gender", "race"))
        >>> names.words, names.factors
        ((('Jamal', 'Greg', 'Lakisha', 'Emily'),), {'gender': 2, 'race': 2})
    """

    name: str
    words: Sequence[Sequence[Any]]
    general_words: Sequence[str] = ()
    notes: str = ""
    axes: Sequence[str] = ()
    modifiers: Sequence[Sequence[Any]] = ()
    before: Sequence[str] = ()
    shape: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        checks.check_text(self.name, "name")
        axis = f"Axis {self.name!r}: "
        axes = checks.checked_axes(self.axes, self.name, axis)
        words, shape = checks.flat_lists(self.words, len(axes) or 1, axis, "words")
        if shape is None:
            raise EquiLMError(
                f'{axis}words must be a list of at least one list, such as [["man", "woman"]], got {self.words!r}.'
            )
        modifiers, modifier_shape = checks.flat_lists(self.modifiers, len(axes) or 1, axis, "modifiers")
        if modifier_shape not in (None, shape):
            raise EquiLMError(
                f"{axis}modifiers has lists of {modifiers[0]}, but words of {words[0]}: expected one word for each of "
                "the same groups. Complete the lists or remove them."
            )
        # A modifier may be a word too if it is written otherwise: black before a noun, Black anywhere.
        for lists, key in ((words, "words"), (modifiers, "modifiers")):
            checks.check_unique([(word, f"{key}[{i}]") for i, entry in enumerate(lists) for word in entry], axis)
        if not isinstance(self.notes, str):
            raise EquiLMError(f"{axis}notes must be a string, got {self.notes!r}. Write the notes as one text.")
        # Tuples make an axis hashable, whatever sequences it was written with.
        for key, value in {
            "axes": axes,
            "words": words,
            "shape": shape,
            "modifiers": modifiers,
            "before": checks.checked_before(self.before, modifiers, axis),
            "general_words": checks.checked_texts(self.general_words, axis, "general_words"),
        }.items():
            object.__setattr__(self, key, value)

    @property
    def size(self) -> int:
        """d, the length of each list, which is the number of groups, or of their combinations for joint lists."""
        return math.prod(self.shape)

    @property
    def factors(self) -> dict[str, int]:
        """The factors of the group that move this axis's words, with their sizes. A joint list has several."""
        return dict(zip(self.axes or (self.name,), self.shape, strict=True))

    @classmethod
    def load(cls, name_or_path: str | os.PathLike[str]) -> "DemographicAxis":
        """A built-in axis (``"gender"``, ``"race"``, ``"race3"``, ``"orientation"``), or one from a JSON file.

        The file is described by ``equilm/words/lists/axis.schema.json``.

        Raises:
            EquiLMError: for an unknown name, and for a file that is not JSON or does not describe an axis.
        """
        if not isinstance(name_or_path, str | os.PathLike):
            raise EquiLMError(
                f"An axis is a DemographicAxis, a name or the path of a JSON file, got {name_or_path!r}. "
                f"Built-in names: {', '.join(BUILT_IN_AXES)}."
            )
        if name_or_path in BUILT_IN_AXES:
            return cls.from_dict(json.loads((files(__package__) / "lists" / f"{name_or_path}.json").read_text("utf-8")))
        path = Path(name_or_path)
        if not path.is_file():
            raise EquiLMError(
                f"No axis {str(name_or_path)!r}: expected one of the built-in names {', '.join(BUILT_IN_AXES)}, "
                "or the path of a JSON file that exists. Check the spelling, or write your own lists to a file."
            )
        return cls._read(path)

    @classmethod
    def _read(cls, path: Path) -> "DemographicAxis":
        try:
            data = json.loads(path.read_text("utf-8-sig"))  # some editors start a file with a byte order mark
        except (ValueError, RecursionError) as error:
            raise EquiLMError(
                f"{path} is not JSON ({error}). Expected an object such as "
                '{"name": "gender", "words": [["man", "woman"]]}, saved as UTF-8.'
            ) from error
        try:
            return cls.from_dict(data)
        except EquiLMError as error:
            raise EquiLMError(f"{path}: {error}") from error

    @classmethod
    def from_dict(cls, data: Any) -> "DemographicAxis":
        """The axis that `to_dict` wrote down.

        Raises:
            EquiLMError: for a missing or unknown key, and for a value of the wrong type.
        """
        if not isinstance(data, dict):
            raise EquiLMError(f"An axis is written as an object with the keys {', '.join(_KEYS[1:])}, got {data!r}.")
        if unknown := [key for key in data if key not in _KEYS]:
            raise EquiLMError(
                f"Unknown key {unknown[0]!r}: expected only {', '.join(_KEYS)}. Correct or remove it; "
                "what you want to say to readers goes into notes."
            )
        if missing := [key for key in ("name", "words") if key not in data]:
            raise EquiLMError(f"The key {missing[0]!r} is missing from an axis with the keys {sorted(data)}. Add it.")
        if not isinstance(data.get("$schema", ""), str):
            raise EquiLMError(f"$schema must be a string, got {data['$schema']!r}. It may be left out.")
        return cls(**{key: value for key, value in data.items() if key != "$schema"})

    def to_dict(self) -> dict[str, Any]:
        """The axis as plain lists and strings, for JSON; what is empty by default is left out."""
        written: dict[str, Any] = {"name": self.name}
        if self.axes:
            written["axes"] = list(self.axes)
        written["words"] = [_nested(entry, self.shape) for entry in self.words]
        if self.modifiers:
            written["modifiers"] = [_nested(entry, self.shape) for entry in self.modifiers]
            written["before"] = list(self.before)
        return {**written, "general_words": list(self.general_words), "notes": self.notes}


def _nested(words: Sequence[str], shape: tuple[int, ...]) -> list[Any]:
    if len(shape) == 1:
        return list(words)
    step = math.prod(shape[1:])
    return [_nested(words[start : start + step], shape[1:]) for start in range(0, len(words), step)]


AxisLike = DemographicAxis | str | os.PathLike[str]


def load_axes(axes: AxisLike | Sequence[AxisLike]) -> tuple[DemographicAxis, ...]:
    """One or several axes, given as objects, built-in names or paths.

    Raises:
        EquiLMError: for no axis at all, two axes of one name, a word in two axes, as their actions would not commute,
            and joint lists made for another number of members than the axis they name.
    """
    several = axes if isinstance(axes, list | tuple) else (axes,)
    loaded = tuple(axis if isinstance(axis, DemographicAxis) else DemographicAxis.load(axis) for axis in several)
    if not loaded:
        raise EquiLMError(f"No axis given: expected at least one, such as {BUILT_IN_AXES[0]!r}.")
    places: dict[str, str] = {}
    names: set[str] = set()
    for axis in loaded:
        if axis.name in names:
            raise EquiLMError(
                f"Two axes are called {axis.name!r}: give each its own name, or put their lists together."
            )
        names.add(axis.name)
        # Two spellings of one axis may share a word (Black, and black as a modifier); two axes may not.
        for word in chain(chain.from_iterable(axis.words), chain.from_iterable(axis.modifiers)):
            if (other := places.setdefault(word.casefold(), axis.name)) != axis.name:
                raise EquiLMError(
                    f"The word {word!r} stands in the axes {other!r} and {axis.name!r}: axes need different words, "
                    "or their swaps would depend on the order. Take the word's list out of one of them."
                )
    Factors([axis.factors for axis in loaded])  # checks the sizes
    return loaded
