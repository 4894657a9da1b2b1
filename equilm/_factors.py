"""The group of several axes, a product of the factors they name, and how it moves the cells of each axis's lists."""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from .errors import EquiLMError
from .groups import CyclicGroup, Group, ProductGroup


class Factors:
    """The distinct factors of some axes, in the order in which they first come up.

    An axis has one factor, its own, or several: the words of a joint list are indexed by one member of each. The words
    of a list are numbered as *cells*, row-major: a list of shape ``(2, 3)`` has cells 0 to 5, and the last index runs
    fastest.

    Args:
        axes: for each axis its factors, from name to number of members.

    Raises:
        EquiLMError: for one name with two sizes.

    Example:
        >>> factors = Factors([{"gender": 2}, {"gender": 2, "race": 3}])
        >>> factors.sizes, factors.group
        ({'gender': 2, 'race': 3}, ProductGroup(CyclicGroup(2), CyclicGroup(3)))
        >>> factors.moves(1)[4]  # element 4 is (1, 1)
        (4, 5, 3, 1, 2, 0)
    """

    def __init__(self, axes: Sequence[Mapping[str, int]]):
        self.axes = tuple(dict(axis) for axis in axes)
        self.sizes: dict[str, int] = {}
        for axis in self.axes:
            for name, size in axis.items():
                if self.sizes.setdefault(name, size) != size:
                    raise EquiLMError(
                        f"The axis {name!r} has {self.sizes[name]} members in one place and {size} in another. Use "
                        "lists made for the same members, or give the two axes different names."
                    )
        cyclic = [CyclicGroup(size) for size in self.sizes.values()]
        self.group: Group = cyclic[0] if len(cyclic) == 1 else ProductGroup(*cyclic)

    def shifts(self, g: int) -> dict[str, int]:
        """By how many members ``g`` moves each factor."""
        self.group.check_element(g)
        components = self.group.split(g) if isinstance(self.group, ProductGroup) else (g,)
        return dict(zip(self.sizes, components, strict=True))

    def moves(self, axis: int) -> tuple[tuple[int, ...], ...]:
        """For each element the cell that each cell of an axis's lists is moved to: shape ``(|G|, cells)``."""
        own = self.axes[axis]
        return tuple(self._move(own, self.shifts(g)) for g in self.group.elements)

    @staticmethod
    def _move(own: Mapping[str, int], shifts: Mapping[str, int]) -> tuple[int, ...]:
        steps = [math.prod(list(own.values())[number + 1 :]) for number in range(len(own))]
        moved = []
        for members in product(*map(range, own.values())):  # the cells, row-major
            parts = zip(own.items(), members, steps, strict=True)
            moved.append(sum((member + shifts[name]) % size * step for (name, size), member, step in parts))
        return tuple(moved)


def written_factors(axis: Mapping[str, Any]) -> dict[str, int]:
    """The factors of an axis as its JSON file has it, and a saved model's configuration."""
    factors, words = {}, axis["words"][0]
    for name in axis.get("axes") or [axis["name"]]:
        factors[str(name)] = len(words)
        words = words[0]
    return factors


def flat_words(entry: Sequence[Any]) -> tuple[str, ...]:
    """The words of a list, row-major, as a JSON file has them: nested for a joint list."""
    return tuple(word for part in entry for word in ((part,) if isinstance(part, str) else flat_words(part)))
