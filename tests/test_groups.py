"""Groups: the axioms, the numbering of the elements that users and saved tables rely on, and the refusals."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import groups

from equilm.errors import EquiLMError
from equilm.groups import CyclicGroup, DihedralGroup, Group, ProductGroup, check_group


@given(groups, st.data())
def test_axioms(group: Group, data: st.DataObject) -> None:
    element = st.integers(0, group.order - 1)
    a, b, c = data.draw(element), data.draw(element), data.draw(element)
    assert group.compose(a, b) in group.elements
    assert group.compose(0, a) == a == group.compose(a, 0)
    assert group.compose(a, group.inverse(a)) == 0 == group.compose(group.inverse(a), a)
    assert group.compose(a, group.compose(b, c)) == group.compose(group.compose(a, b), c)
    assert group.inverse(group.compose(a, b)) == group.compose(group.inverse(b), group.inverse(a))


@given(groups)
def test_elements_are_numbered_from_the_identity_and_rows_are_permutations(group: Group) -> None:
    assert list(group.elements) == list(range(group.order))
    for a in itertools.islice(group.elements, 12):
        assert sorted(group.compose(a, b) for b in group.elements) == list(group.elements)


@pytest.mark.parametrize("n", range(1, 8))
def test_cyclic_element_is_a_power_of_the_generator(n: int) -> None:
    group, power = CyclicGroup(n), 0
    assert group.order == n
    for k in range(n):
        assert power == k
        power = group.compose(1 % n, power)
    assert power == 0


def _orthogonal(n: int, element: int) -> torch.Tensor:
    """The 2 × 2 matrix of a dihedral element as documented: k/n of a full turn, after a horizontal flip if any."""
    flip, k = divmod(element, n)
    cos, sin = math.cos(2 * math.pi * k / n), math.sin(2 * math.pi * k / n)
    rotation = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)
    return rotation @ torch.diag(torch.tensor([-1.0 if flip else 1.0, 1.0], dtype=torch.float64))


@pytest.mark.parametrize("n", range(1, 7))
def test_dihedral_numbering_is_that_of_plane_rotations_after_a_flip(n: int) -> None:
    group = DihedralGroup(n)
    matrices = torch.stack([_orthogonal(n, g) for g in group.elements])
    assert group.order == 2 * n
    for a, b in itertools.product(group.elements, repeat=2):
        torch.testing.assert_close(matrices[group.compose(a, b)], matrices[a] @ matrices[b])
        torch.testing.assert_close(matrices[group.inverse(a)], matrices[a].inverse())


def test_dihedral_flip_reverses_the_rotations_on_its_right() -> None:
    d4 = DihedralGroup(4)
    assert [d4.compose(4, k) for k in range(4)] == [4, 7, 6, 5]
    assert [d4.compose(k, 4) for k in range(4)] == [4, 5, 6, 7]
    assert [d4.inverse(g) for g in d4.elements] == [0, 3, 2, 1, 4, 5, 6, 7]


def test_product_numbers_in_mixed_radix_with_the_first_factor_slowest() -> None:
    group = ProductGroup(CyclicGroup(2), CyclicGroup(3), DihedralGroup(2))
    components = list(itertools.product(range(2), range(3), range(4)))
    assert group.order == len(components)
    for a in group.elements:
        assert group.split(a) == components[a]
        assert group.join(components[a]) == a


@given(st.lists(groups, min_size=1, max_size=3), st.data())
def test_product_composes_factor_by_factor(factors: list[Group], data: st.DataObject) -> None:
    group = ProductGroup(*factors)
    xs = tuple(data.draw(st.integers(0, factor.order - 1)) for factor in factors)
    ys = tuple(data.draw(st.integers(0, factor.order - 1)) for factor in factors)
    product = tuple(factor.compose(x, y) for factor, x, y in zip(factors, xs, ys, strict=True))
    assert group.order == math.prod(factor.order for factor in factors)
    assert group.split(group.compose(group.join(xs), group.join(ys))) == product
    assert group.split(group.inverse(group.join(xs))) == tuple(f.inverse(x) for f, x in zip(factors, xs, strict=True))


def test_nested_product_is_numbered_as_the_flat_one() -> None:
    c2, c3, d3 = CyclicGroup(2), CyclicGroup(3), DihedralGroup(3)
    nested, flat = ProductGroup(c2, ProductGroup(c3, d3)), ProductGroup(c2, c3, d3)
    for a, b in itertools.product(flat.elements, repeat=2):
        assert nested.compose(a, b) == flat.compose(a, b)


def test_equality_hash_and_repr() -> None:
    same = [ProductGroup(CyclicGroup(2), DihedralGroup(4)) for _ in range(2)]
    assert same[0] == same[1]
    assert hash(same[0]) == hash(same[1])
    assert repr(same[0]) == "ProductGroup(CyclicGroup(2), DihedralGroup(4))"
    # Of one order or one parameter, and yet other groups.
    others: list[object] = [CyclicGroup(2), CyclicGroup(4), DihedralGroup(2), ProductGroup(CyclicGroup(2)), 2]
    for one, other in itertools.combinations(others, 2):
        assert one != other
    assert ProductGroup(CyclicGroup(2), CyclicGroup(3)) != ProductGroup(CyclicGroup(3), CyclicGroup(2))


@pytest.mark.parametrize("n", [0, -1, True, 2.0, "4"])
@pytest.mark.parametrize("group", [CyclicGroup, DihedralGroup])
def test_order_must_be_a_positive_integer(group: type[CyclicGroup] | type[DihedralGroup], n: object) -> None:
    with pytest.raises(EquiLMError, match=f"at least 1, got {n!r}"):
        group(n)  # type: ignore[arg-type]  # the wrong type is what is tested


@pytest.mark.parametrize(
    "group", [CyclicGroup(3), DihedralGroup(3), ProductGroup(CyclicGroup(2), CyclicGroup(3))], ids=repr
)
@pytest.mark.parametrize("outside", [-1, 6])
def test_elements_outside_the_group_are_refused(group: Group, outside: int) -> None:
    with pytest.raises(EquiLMError, match=f"{outside} is not an element"):
        group.compose(outside, 0)
    with pytest.raises(EquiLMError, match=f"{outside} is not an element"):
        group.compose(0, outside)
    with pytest.raises(EquiLMError, match=f"{outside} is not an element"):
        group.inverse(outside)


def test_product_refuses_no_factor_and_wrong_components() -> None:
    with pytest.raises(EquiLMError, match="at least one factor"):
        ProductGroup()
    group = ProductGroup(CyclicGroup(2), CyclicGroup(3))
    with pytest.raises(EquiLMError, match="has 2 factors, got 1 components"):
        group.join((1,))
    with pytest.raises(EquiLMError, match=r"3 is not an element of CyclicGroup\(3\)"):
        group.join((1, 3))


class TableGroup(Group):
    """A group of one's own, given by its Cayley table."""

    def __init__(self, table: list[list[int]]):
        self.table = table

    @property
    def order(self) -> int:
        return len(self.table)

    def compose(self, a: int, b: int) -> int:
        return self.table[a][b]

    def inverse(self, a: int) -> int:
        return self.table[a].index(0) if 0 in self.table[a] else 0

    def _key(self) -> tuple[object, ...]:
        return (str(self.table),)


@pytest.mark.parametrize("group", [CyclicGroup(5), DihedralGroup(4), TableGroup([[0, 1], [1, 0]])], ids=repr)
def test_check_group_accepts_groups(group: Group) -> None:
    check_group(group)


@pytest.mark.parametrize(
    ("table", "axiom"),
    [
        ([[0, 1], [1, 2]], "closure"),
        ([[1, 0], [0, 1]], "0 is not the identity for element 0"),
        ([[0, 1], [0, 1]], "0 is not the identity for element 1"),  # it is, from the left
        ([[0, 0], [1, 1]], "0 is not the identity for element 1"),  # it is, from the right
        ([[0, 1], [1, 1]], "not the inverse of element 1"),
        # A loop of order 5: identity and two-sided inverses, yet (1·1)·2 = 2 and 1·(1·2) = 4.
        (
            [[0, 1, 2, 3, 4], [1, 0, 3, 4, 2], [2, 4, 0, 1, 3], [3, 2, 4, 0, 1], [4, 3, 1, 2, 0]],
            "not associative for elements 1, 1, 2",
        ),
    ],
)
def test_check_group_names_the_broken_axiom(table: list[list[int]], axiom: str) -> None:
    with pytest.raises(EquiLMError, match=axiom):
        check_group(TableGroup(table))
