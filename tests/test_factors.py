"""The product of factors: joint lists are moved by each factor's own shift, and by nothing else."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equilm.errors import EquiLMError
from equilm.groups import CyclicGroup, Factors, ProductGroup, check_group

SIZES = {"a": 2, "b": 3, "c": 4}
_axis = st.lists(st.sampled_from(sorted(SIZES)), min_size=1, max_size=3, unique=True)


@given(axes=st.lists(_axis, min_size=1, max_size=3))
def test_each_axis_is_acted_on_by_the_shifts_of_its_factors(axes: list[list[str]]) -> None:
    factors = Factors([{name: SIZES[name] for name in axis} for axis in axes])
    check_group(factors.group) if factors.group.order <= 12 else None
    for number, axis in enumerate(axes):
        cells = list(product(*(range(SIZES[name]) for name in axis)))  # row-major
        moves = factors.moves(number)
        for g in factors.group.elements:
            shifts = factors.shifts(g)
            expected = [
                tuple((member + shifts[name]) % SIZES[name] for name, member in zip(axis, cell, strict=True))
                for cell in cells
            ]
            assert [cells[moved] for moved in moves[g]] == expected


@given(axes=st.lists(_axis, min_size=1, max_size=2))
def test_the_moves_are_a_group_action(axes: list[list[str]]) -> None:
    factors = Factors([{name: SIZES[name] for name in axis} for axis in axes])
    for number in range(len(axes)):
        moves = factors.moves(number)
        assert moves[0] == tuple(range(len(moves[0])))
        for g, h in product(factors.group.elements, repeat=2):
            assert moves[factors.group.compose(g, h)] == tuple(moves[g][cell] for cell in moves[h])


def test_groups() -> None:
    assert Factors([{"a": 3}]).group == CyclicGroup(3)
    assert Factors([{"a": 2}, {"a": 2, "b": 2}]).group == ProductGroup(CyclicGroup(2), CyclicGroup(2))
    with pytest.raises(EquiLMError, match="'a' has 2 members in one place and 3 in another"):
        Factors([{"a": 2}, {"a": 3, "b": 2}])
