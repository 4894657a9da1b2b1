"""Finite groups: cyclic, dihedral, products and the group of several axes; element ``0`` is the identity."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import product

from .errors import EquiLMError

__all__ = [
    "CyclicGroup",
    "DihedralGroup",
    "Group",
    "ProductGroup",
    "check_group",
]


class Group(ABC):
    """A finite group. Elements are the integers ``0 … order - 1``; ``0`` is the identity.

    A subclass defines `order`, `compose`, `inverse` and `_key`. Groups are equal if they have the same type and key.
    """

    @property
    @abstractmethod
    def order(self) -> int:
        """The number of elements, |G|."""

    @abstractmethod
    def compose(self, a: int, b: int) -> int:
        """The element ``a·b``: first ``b`` acts, then ``a``."""

    @abstractmethod
    def inverse(self, a: int) -> int:
        """The element ``a⁻¹``, for which ``compose(a, inverse(a)) == 0``."""

    @abstractmethod
    def _key(self) -> tuple[object, ...]:
        """What two groups of the same type must share to be equal, such as their order or their factors."""

    @property
    def elements(self) -> range:
        """All elements, the identity first."""
        return range(self.order)

    def split(self, a: int) -> tuple[int, ...]:
        """The element's components, one for each factor; a group that is not a product is its own only factor."""
        self.check_element(a)
        return (a,)

    def multiplication_table(self) -> list[list[int]]:
        """``table[a][b] == compose(a, b)``."""
        return [[self.compose(a, b) for b in self.elements] for a in self.elements]

    def check_element(self, *elements: int) -> None:
        """Raise an `EquiLMError` for integers that are not elements."""
        for element in elements:
            if not 0 <= element < self.order:
                raise EquiLMError(
                    f"{element} is not an element of {self}: expected an integer in 0 … {self.order - 1}."
                )

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, Group) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash((type(self).__name__, self._key()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self._key()))})"


def _positive(n: int, name: str) -> int:
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise EquiLMError(f"{name} needs an integer of at least 1, got {n!r}.")
    return n


class CyclicGroup(Group):
    """C_n: element ``k`` is the k-th power of the generator.

    Args:
        n: the order, at least 1.

    Example:
        >>> group = CyclicGroup(3)
        >>> group.compose(1, 2), group.inverse(1)
        (0, 2)
    """

    def __init__(self, n: int):
        self.n = _positive(n, "CyclicGroup(n)")

    @property
    def order(self) -> int:
        return self.n

    def compose(self, a: int, b: int) -> int:
        self.check_element(a, b)
        return (a + b) % self.n

    def inverse(self, a: int) -> int:
        self.check_element(a)
        return -a % self.n

    def _key(self) -> tuple[object, ...]:
        return (self.n,)


class DihedralGroup(Group):
    """D_n, of order 2n: element ``k < n`` is the rotation r^k by k/n of a turn, ``n + k`` that rotation after a flip.

    For ``n = 4`` these are the symmetries of a square image: ``k`` quarter turns, and a horizontal flip followed by
    ``k`` quarter turns.

    Args:
        n: the number of rotations, at least 1.

    Example:
        >>> d4 = DihedralGroup(4)
        >>> d4.compose(4, 1), d4.compose(1, 4)  # flip·r = r³·flip, r·flip
        (7, 5)
    """

    def __init__(self, n: int):
        self.n = _positive(n, "DihedralGroup(n)")

    @property
    def order(self) -> int:
        return 2 * self.n

    def compose(self, a: int, b: int) -> int:
        self.check_element(a, b)
        (flip_a, turn_a), (flip_b, turn_b) = divmod(a, self.n), divmod(b, self.n)
        # r^i f · r^j = r^(i - j) f: a flip turns the rotations on its right around.
        turn = (turn_a - turn_b if flip_a else turn_a + turn_b) % self.n
        return (flip_a ^ flip_b) * self.n + turn

    def inverse(self, a: int) -> int:
        self.check_element(a)
        return a if a >= self.n else -a % self.n

    def _key(self) -> tuple[object, ...]:
        return (self.n,)


class ProductGroup(Group):
    """The direct product of groups; elements are numbered in mixed radix, the first factor slowest.

    Args:
        groups: the factors, at least one.

    Example:
        >>> group = ProductGroup(CyclicGroup(2), CyclicGroup(3))
        >>> group.order, group.join((1, 2)), group.split(5)
        (6, 5, (1, 2))
    """

    def __init__(self, *groups: Group):
        if not groups:
            raise EquiLMError("ProductGroup needs at least one factor, got none.")
        self.factors = groups

    @property
    def order(self) -> int:
        return math.prod(factor.order for factor in self.factors)

    def split(self, a: int) -> tuple[int, ...]:
        self.check_element(a)
        components = []
        for factor in reversed(self.factors):
            a, component = divmod(a, factor.order)
            components.append(component)
        return tuple(reversed(components))

    def join(self, components: tuple[int, ...]) -> int:
        """The element with these components, one for each factor."""
        if len(components) != len(self.factors):
            raise EquiLMError(
                f"{self} has {len(self.factors)} factors, got {len(components)} components: {components}."
            )
        element = 0
        for factor, component in zip(self.factors, components, strict=True):
            factor.check_element(component)
            element = element * factor.order + component
        return element

    def compose(self, a: int, b: int) -> int:
        pairs = zip(self.factors, self.split(a), self.split(b), strict=True)
        return self.join(tuple(factor.compose(x, y) for factor, x, y in pairs))

    def inverse(self, a: int) -> int:
        return self.join(tuple(f.inverse(x) for f, x in zip(self.factors, self.split(a), strict=True)))

    def _key(self) -> tuple[object, ...]:
        return self.factors


def direct_product(*groups: Group) -> Group:
    """The direct product of the groups; for a single group, the group itself.

    Args:
        groups: the factors, at least one.

    Example:
        >>> direct_product(CyclicGroup(2)), direct_product(CyclicGroup(2), CyclicGroup(3)).order
        (CyclicGroup(2), 6)
    """
    return groups[0] if len(groups) == 1 else ProductGroup(*groups)


class Factors:
    """The group of several axes: the product of the distinct factors they name, in the order of first mention.

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
        self.group = direct_product(*map(CyclicGroup, self.sizes.values()))

    def shifts(self, g: int) -> dict[str, int]:
        """By how many members ``g`` moves each factor."""
        self.group.check_element(g)
        return dict(zip(self.sizes, self.group.split(g), strict=True))

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


def check_group(group: Group) -> None:
    """Check closure, identity, inverses and associativity by trying all elements; use it for a group of your own.

    Raises:
        EquiLMError: names the axiom and the elements that break it.
    """
    for a, b in product(group.elements, repeat=2):
        if group.compose(a, b) not in group.elements:
            raise EquiLMError(f"{group}: {a}·{b} = {group.compose(a, b)} is not an element (closure).")
    for a in group.elements:
        if group.compose(0, a) != a or group.compose(a, 0) != a:
            raise EquiLMError(f"{group}: 0 is not the identity for element {a}.")
        if group.compose(a, group.inverse(a)) != 0:
            raise EquiLMError(f"{group}: {group.inverse(a)} is not the inverse of element {a}.")
    for a, b, c in product(group.elements, repeat=3):
        if group.compose(a, group.compose(b, c)) != group.compose(group.compose(a, b), c):
            raise EquiLMError(f"{group}: composition is not associative for elements {a}, {b}, {c}.")
