"""Actions: each is one, moves what it should and leaves the rest, and refuses what would break the group."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import VOCAB_SIZE, cycles, token_actions
from torch import Tensor

from equilm.actions import Action, LogitAction, PixelAction, RegularAction, TokenAction, TrivialAction
from equilm.errors import EquiLMError
from equilm.groups import CyclicGroup, DihedralGroup, ProductGroup

C4, D4 = CyclicGroup(4), DihedralGroup(4)

# Orders 2, 3, 4 and products: a wrong direction is invisible where every element is its own inverse.
TOKENS = {
    "c2": TokenAction.from_cycles([[[1, 2], [7, 4]]], 10),
    "c3": TokenAction.from_cycles([[[1, 2, 5], [8, 0, 3]]], 10),
    "c4": TokenAction.from_cycles([[[9, 2, 5, 1]]], 10),
    "c2xc3": TokenAction.from_cycles([[[1, 2]], [[3, 6, 5], [0, 4, 8]]], 10),
    "c3xc2xc4": TokenAction.from_cycles([[[1, 2, 9]], [[3, 6]], [[0, 4, 8, 7]]], 10),
}
PIXELS = {"c4": PixelAction(C4), "d4": PixelAction(D4)}


def _ids() -> Tensor:
    return torch.randint(10, (3, 50))


def _images(size: int) -> Tensor:
    return torch.randn(2, 3, size, size)


# Every action, with an input on which it is faithful.
CASES: dict[str, tuple[Action, Tensor]] = {
    **{f"pixels-{g}-{size}": (PIXELS[g], _images(size)) for g in PIXELS for size in (4, 5)},
    **{f"tokens-{g}": (action, _ids()) for g, action in TOKENS.items()},
    **{f"logits-{g}": (action.on_logits, torch.randn(2, 3, 10)) for g, action in TOKENS.items()},
    "regular-of-trivial": (RegularAction(TrivialAction(D4)), torch.randn(8, 2, 5)),
    "regular-of-pixels": (RegularAction(PIXELS["d4"], dim=1), torch.randn(2, 8, 3, 5, 5)),
    "regular-of-logits": (RegularAction(TOKENS["c2xc3"].on_logits, dim=-2), torch.randn(4, 6, 10)),
    "regular-of-regular": (RegularAction(RegularAction(TrivialAction(D4), dim=1), dim=0), torch.randn(8, 8, 2)),
}
cases = pytest.mark.parametrize(("action", "x"), CASES.values(), ids=CASES)


@cases
def test_identity_and_composition(action: Action, x: Tensor) -> None:
    group, before = action.group, x.clone()
    assert torch.equal(action.act(x, 0), x)
    for a, b in itertools.product(group.elements, repeat=2):
        assert torch.equal(action.act(action.act(x, b), a), action.act(x, group.compose(a, b)))
    assert torch.equal(x, before)


@cases
def test_inverse_undoes_and_nothing_else_is_fixed(action: Action, x: Tensor) -> None:
    for g in action.group.elements:
        moved = action.act(x, g)
        assert moved.shape == x.shape
        assert moved.dtype == x.dtype
        assert torch.equal(action.act(moved, action.group.inverse(g)), x)
        assert torch.equal(moved, x) == (g == 0)


def test_trivial_action_moves_nothing() -> None:
    x = torch.randn(3, 4)
    assert all(torch.equal(TrivialAction(D4).act(x, g), x) for g in D4.elements)


def test_pixels_turn_counter_clockwise_and_flip_left_to_right_first() -> None:
    image = torch.tensor([[1, 2], [3, 4]])
    quarter, flip = torch.tensor([[2, 4], [1, 3]]), torch.tensor([[2, 1], [4, 3]])
    flip_then_quarter = torch.tensor([[1, 3], [2, 4]])
    assert torch.equal(PIXELS["c4"].act(image, 1), quarter)
    assert torch.equal(PIXELS["d4"].act(image, 1), quarter)
    assert torch.equal(PIXELS["d4"].act(image, 4), flip)
    assert torch.equal(PIXELS["d4"].act(image, 5), flip_then_quarter)


@pytest.mark.parametrize("group", [CyclicGroup(2), DihedralGroup(3), ProductGroup(CyclicGroup(4))], ids=repr)
def test_pixels_refuse_other_groups(group: CyclicGroup | DihedralGroup | ProductGroup) -> None:
    with pytest.raises(EquiLMError, match=r"CyclicGroup\(4\) or DihedralGroup\(4\), got"):
        PixelAction(group)


@pytest.mark.parametrize("g", D4.elements)
def test_only_quarter_turns_need_square_images(g: int) -> None:
    wide = torch.randn(1, 3, 4, 6)
    if g % 2:
        with pytest.raises(EquiLMError, match="height 4 and width 6"):
            PIXELS["d4"].act(wide, g)
    else:
        assert PIXELS["d4"].act(wide, g).shape == wide.shape


def test_regular_action_moves_entry_gh_to_g_and_acts_on_it() -> None:
    action, x = CASES["regular-of-pixels"]
    for g, h in itertools.product(D4.elements, repeat=2):
        assert torch.equal(action.act(x, h)[:, g], PIXELS["d4"].act(x[:, D4.compose(g, h)], h))


def test_regular_action_refuses_a_stack_of_the_wrong_size() -> None:
    with pytest.raises(EquiLMError, match=r"Dimension 1 must be indexed by the 8 elements.*got shape \(2, 4, 3\)"):
        RegularAction(TrivialAction(D4), dim=1).act(torch.randn(2, 4, 3), 1)


@given(cycles())
def test_generator_of_each_axis_turns_each_id_into_the_next(drawn: list[list[list[int]]]) -> None:
    action = TokenAction.from_cycles(drawn, VOCAB_SIZE)
    named = {token for lists in drawn for ids in lists for token in ids}
    for axis, lists in enumerate(drawn):
        # Element 1 of this axis alone, in mixed radix with the first axis slowest.
        generator = 1
        for later in drawn[axis + 1 :]:
            generator *= len(later[0])
        expected = {token: ids[(i + 1) % len(ids)] for ids in lists for i, token in enumerate(ids)}
        assert action.permutation[generator].tolist() == [expected.get(v, v) for v in range(VOCAB_SIZE)]
    assert set(action.moved.nonzero().flatten().tolist()) == named
    assert action.vocab_size == VOCAB_SIZE


@given(token_actions)
def test_table_is_an_action_of_its_group(action: TokenAction) -> None:
    assert action.permutation.dtype == torch.int64
    assert action.permutation.shape == (action.group.order, VOCAB_SIZE)
    action.check()


@given(token_actions, st.data())
def test_composition_of_table_rows(action: TokenAction, data: st.DataObject) -> None:
    a, b = (data.draw(st.integers(0, action.group.order - 1)) for _ in range(2))
    composed = action.permutation[action.group.compose(a, b)]
    assert composed.tolist() == [int(action.permutation[a][w]) for w in action.permutation[b]]


@pytest.mark.parametrize("action", TOKENS.values(), ids=TOKENS)
def test_inverse_gathers_the_logits_at_the_permuted_ids(action: TokenAction) -> None:
    y = torch.randn(2, 10)
    for g in action.group.elements:
        back = action.on_logits.act(y, action.group.inverse(g))
        for v in range(10):
            assert torch.equal(back[:, v], y[:, action.permutation[g][v]])  # (g⁻¹ y)[v] = y[g·v]


@pytest.mark.parametrize("action", TOKENS.values(), ids=TOKENS)
def test_ids_and_their_one_hot_logits_move_together(action: TokenAction) -> None:
    ids = torch.arange(10)
    one_hot = torch.nn.functional.one_hot(ids, 10).float()
    for g in action.group.elements:
        moved = action.act_on_logits(one_hot, g)
        assert torch.equal(moved.argmax(-1), action.act(ids, g))
        assert torch.equal(moved, LogitAction(action).act(one_hot, g))


@pytest.mark.parametrize("action", TOKENS.values(), ids=TOKENS)
def test_orbit_stacks_all_images(action: TokenAction) -> None:
    ids = _ids()
    assert torch.equal(action.orbit(ids), torch.stack([action.act(ids, g) for g in action.group.elements]))


def test_moved_holds_what_any_element_moves() -> None:
    """The symmetries of a triangle with corners 1, 2, 3: each reflection fixes a corner, and yet every corner moves."""
    rows = [[0, 1, 2, 3], [0, 2, 3, 1], [0, 3, 1, 2], [0, 1, 3, 2], [0, 2, 1, 3], [0, 3, 2, 1]]
    action = TokenAction(DihedralGroup(3), torch.tensor(rows))
    action.check()
    assert action.moved.tolist() == [False, True, True, True]


def test_relaxed_fixes_the_lists_that_hold_a_general_word() -> None:
    action = TokenAction.from_cycles([[[1, 2], [3, 4]], [[5, 6, 7], [8, 9, 0]]], 12, general_ids=[7, 4, 11, 7])
    assert action.general_ids == (4, 7, 11)
    relaxed = action.relaxed()
    relaxed.check()
    assert relaxed.group == action.group
    assert relaxed.general_ids == action.general_ids
    fixed = [3, 4, 5, 6, 7, 10, 11]  # whole lists: with their general word alone, the others would not be permuted
    for v in range(12):
        expected = torch.full((6,), v) if v in fixed else action.permutation[:, v]
        assert torch.equal(relaxed.permutation[:, v], expected)
    assert action.moved[torch.tensor([3, 4, 5, 6, 7])].all()  # the action itself is left as it was


def test_relaxed_without_general_words_changes_nothing() -> None:
    assert torch.equal(TOKENS["c2xc3"].relaxed().permutation, TOKENS["c2xc3"].permutation)


def test_to_moves_the_table_and_keeps_the_rest() -> None:
    action = TokenAction.from_cycles([[[1, 2]]], 5, general_ids=[3])
    assert action.to(torch.device("cpu")) is action
    moved = action.to(torch.device("meta"))
    assert moved.permutation.device.type == "meta"
    assert (moved.group, moved.general_ids) == (action.group, action.general_ids)
    assert action.permutation.device.type == "cpu"


@pytest.mark.parametrize(
    ("drawn", "message"),
    [
        ([], "at least one axis"),
        ([[]], "each axis at least one list"),
        ([[[1, 2], [3, 4, 5]]], r"one length, at least 2, got lengths \[2, 3\]"),
        ([[[1]]], r"got lengths \[1\]"),
        ([[[1, 10]]], "Token id 10 is outside the model's vocabulary of 10 tokens"),
        ([[[1, -1]]], "Token id -1 is outside"),
        ([[[1, 2], [3, 1]]], "Token id 1 stands in two places"),
        ([[[1, 1]]], "Token id 1 stands in two places"),
        ([[[1, 2]], [[3, 4, 2]]], "Token id 2 stands in two places"),  # two axes that would not commute
    ],
)
def test_cycles_that_define_no_action_are_refused(drawn: list[list[list[int]]], message: str) -> None:
    with pytest.raises(EquiLMError, match=message):
        TokenAction.from_cycles(drawn, 10)


C3 = CyclicGroup(3)
ROWS = [[0, 1, 2, 3], [1, 2, 0, 3], [2, 0, 1, 3]]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (torch.tensor(ROWS, dtype=torch.int32), r"int64 of shape \(3, V\).*got torch.int32"),
        (torch.tensor(ROWS[:2]), r"got torch.int64 of shape \(2, 4\)"),
        (torch.tensor(ROWS[0]), r"got torch.int64 of shape \(4,\)"),
        (torch.tensor([ROWS[0], [1, 1, 0, 3], ROWS[2]]), "Row 1 of the table is not a permutation of the 4 token ids"),
        (torch.tensor([ROWS[0], ROWS[1], [2, 0, 1, 4]]), "Row 2 of the table is not a permutation"),
        (torch.tensor([ROWS[1], ROWS[1], ROWS[1]]), "Row 0 of the table moves tokens"),
        (torch.tensor([ROWS[0], ROWS[1], ROWS[1]]), "row 2 is not row 1 after row 1"),
    ],
)
def test_check_names_what_is_wrong_with_a_table(table: Tensor, message: str) -> None:
    TokenAction(C3, torch.tensor(ROWS)).check()
    with pytest.raises(EquiLMError, match=message):
        TokenAction(C3, table).check()


@pytest.mark.parametrize("wrong", [4, 5, 3], ids=["first-factor", "second-factor", "product"])
def test_check_sees_one_wrong_row_of_a_product(wrong: int) -> None:
    table = TOKENS["c2xc3"].permutation.clone()
    table[wrong, [7, 9]] = table[wrong, [9, 7]]
    with pytest.raises(EquiLMError, match="not an action of ProductGroup"):
        TokenAction(TOKENS["c2xc3"].group, table).check()
