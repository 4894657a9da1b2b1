"""Hypothesis strategies for groups and token actions."""

from hypothesis import strategies as st

from equilm.actions import TokenAction
from equilm.groups import CyclicGroup, DihedralGroup, Group, ProductGroup

VOCAB_SIZE = 40

_factors = st.one_of(st.integers(1, 6).map(CyclicGroup), st.integers(1, 5).map(DihedralGroup))


def _products(inner: st.SearchStrategy[Group]) -> st.SearchStrategy[Group]:
    return st.lists(inner, min_size=1, max_size=3).map(lambda factors: ProductGroup(*factors))


# Cyclic and dihedral groups, their products, and products of products.
groups = st.recursive(_factors, _products, max_leaves=4)


@st.composite
def cycles(draw: st.DrawFn) -> list[list[list[int]]]:
    """One to three axes, each of one to three lists of two to four token ids below ``VOCAB_SIZE``, all distinct."""
    ids = iter(draw(st.permutations(range(VOCAB_SIZE))))
    shapes = draw(st.lists(st.tuples(st.integers(1, 3), st.integers(2, 4)), min_size=1, max_size=3))
    return [[[next(ids) for _ in range(length)] for _ in range(lists)] for lists, length in shapes]


token_actions = cycles().map(lambda drawn: TokenAction.from_cycles(drawn, VOCAB_SIZE))
