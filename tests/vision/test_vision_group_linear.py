"""Parameter sharing: equivariant for every element, and as free as an equivariant layer can be."""

import math

import pytest
import torch

from equilm import EquiLMError
from equilm.actions import Action, PixelAction, RegularAction, TrivialAction
from equilm.groups import CyclicGroup, DihedralGroup
from equilm.vision import EquivariantHead, GroupLinear, InvariantHead

GROUPS = {"c4": CyclicGroup(4), "d4": DihedralGroup(4)}


def actions(group: str, kind: str, size: int) -> tuple[Action, tuple[int, ...]]:
    """An action, and the shape it acts on."""
    pixels = PixelAction(GROUPS[group])
    if kind == "maps":
        return pixels, (size, size)
    if kind == "stack":
        return RegularAction(pixels, dim=-3), (pixels.group.order, size, size)
    return TrivialAction(pixels.group), (size,)


CASES = [
    ("maps", 3, "maps", 3),
    ("maps", 4, "maps", 4),
    ("maps", 5, "maps", 2),
    ("maps", 4, "numbers", 2),
    ("stack", 2, "maps", 3),
    ("stack", 3, "stack", 3),
    ("stack", 3, "numbers", 1),
    ("numbers", 3, "stack", 2),
]
cases = pytest.mark.parametrize(("kind_in", "size_in", "kind_out", "size_out"), CASES)


def layer(group: str, kind_in: str, size_in: int, kind_out: str, size_out: int) -> GroupLinear:
    (input_action, input_shape), (output_action, output_shape) = (
        actions(group, kind_in, size_in),
        actions(group, kind_out, size_out),
    )
    return GroupLinear(input_action, input_shape, output_action, output_shape).double()


@cases
@pytest.mark.parametrize("group", GROUPS)
@torch.no_grad()
def test_it_is_equivariant(group: str, kind_in: str, size_in: int, kind_out: str, size_out: int) -> None:
    linear = layer(group, kind_in, size_in, kind_out, size_out)
    x = torch.randn(2, 5, *linear.input_shape, dtype=torch.float64)
    y = linear(x)
    assert y.shape == (2, 5, *linear.output_shape) and y.std() > 0
    for g in GROUPS[group].elements:
        torch.testing.assert_close(linear(linear.input_action.act(x, g)), linear.output_action.act(y, g))


@cases
@pytest.mark.parametrize("group", GROUPS)
def test_it_has_as_many_weights_as_there_are_equivariant_maps(
    group: str, kind_in: str, size_in: int, kind_out: str, size_out: int
) -> None:
    """Their dimension is the mean over the group of the number of fixed pairs (Burnside)."""
    linear = layer(group, kind_in, size_in, kind_out, size_out)

    def fixed(action: Action, shape: tuple[int, ...], g: int) -> int:
        places = torch.arange(math.prod(shape)).view(shape)
        return int((action.act(places, g) == places).sum())

    on_inputs = [fixed(linear.input_action, linear.input_shape, g) for g in GROUPS[group].elements]
    on_outputs = [fixed(linear.output_action, linear.output_shape, g) for g in GROUPS[group].elements]
    pairs = sum(a * b for a, b in zip(on_inputs, on_outputs, strict=True))
    assert len(linear.weight) == pairs // GROUPS[group].order
    assert len(linear.bias) == sum(on_outputs) // GROUPS[group].order


def test_the_trivial_group_shares_nothing() -> None:
    nothing = TrivialAction(CyclicGroup(1))
    linear = GroupLinear(nothing, (3, 3), nothing, (2, 2))
    assert (len(linear.weight), len(linear.bias)) == (36, 4)
    x = torch.randn(5, 3, 3)
    torch.testing.assert_close(linear(x), (x.flatten(1) @ linear.weight.view(4, 9).T + linear.bias).view(5, 2, 2))


def test_errors_name_the_values() -> None:
    pixels = PixelAction(CyclicGroup(4))
    with pytest.raises(EquiLMError, match=r"acted on by CyclicGroup\(4\), the output by DihedralGroup\(4\)"):
        GroupLinear(pixels, (3, 3), PixelAction(DihedralGroup(4)), (3, 3))
    with pytest.raises(EquiLMError, match=r"shape \(3, 3\), got \(4, 4\)"):
        GroupLinear(pixels, (3, 3), pixels, (3, 3))(torch.randn(2, 4, 4))


@torch.no_grad()
def test_the_head_on_regular_features_sees_more_than_their_mean() -> None:
    """Two stacks with the same mean get different logits: else regular features would be for nothing."""
    stack = torch.randn(1, 4, 6, 3, 3)
    other = torch.randn(1, 4, 6, 3, 3)
    other = other - other.mean(1, keepdim=True) + stack.mean(1, keepdim=True)
    action = RegularAction(PixelAction(CyclicGroup(4)), dim=-3)
    for head in (InvariantHead(6, 2, stacked=True), EquivariantHead(action, (4, 3, 3), 6, 2)):
        assert (head(stack) - head(other)).abs().max() > 1e-3
