"""Parameter sharing: fully connected layers whose weights are shared so that they are equivariant (paper, 5.1)."""

import math

import torch
from torch import Tensor, nn

from ..actions import Action
from ..errors import EquiLMError


def shared_weights(
    input_action: Action, input_shape: tuple[int, ...], output_action: Action, output_shape: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Which weights and biases of a fully connected layer must be equal to make it equivariant.

    W is equivariant if W[o, i] = W[g·o, g·i] for all g, so there is one weight for each orbit of the group on pairs of
    an output and an input, and one bias for each orbit on outputs (Ravanbakhsh et al., 2017).

    Args:
        input_action: how the group acts on an input; it moves entries and does not change their values.
        input_shape: the shape of one input.
        output_action: how the same group acts on an output.
        output_shape: the shape of one output.

    Returns:
        For each pair the number of its orbit, int64, shape ``(outputs, inputs)``, and the same for each output, shape
        ``(outputs,)``.
    """
    inputs, outputs = math.prod(input_shape), math.prod(output_shape)
    pairs, singles = [], []
    for g in input_action.group.elements:
        # (g·x)[i] = x[source[i]], read off from a tensor that holds its own indices.
        source_in = input_action.act(torch.arange(inputs, device="cpu").view(input_shape), g).flatten()
        source_out = output_action.act(torch.arange(outputs, device="cpu").view(output_shape), g).flatten()
        pairs.append(source_out[:, None] * inputs + source_in)
        singles.append(source_out)
    # The least member names an orbit; the names are numbered from 0.
    weight = torch.stack(pairs).amin(0).unique(return_inverse=True)[1]
    return weight, torch.stack(singles).amin(0).unique(return_inverse=True)[1]


class GroupLinear(nn.Module):
    """A linear layer with h·(W x + b) = W(h·x) + b for every h: the paper's custom equivariant layer.

    Leading dimensions, such as batch and channels, are independent: all channels share one layer.

    Args:
        input_action: how the group acts on the last dimensions of the input.
        input_shape: the shape of these dimensions.
        output_action: how the same group acts on the last dimensions of the output. `equilm.actions.TrivialAction`
            makes the layer invariant.
        output_shape: the shape of these.

    Raises:
        EquiLMError: if the two actions have different groups.

    Example:
        >>> from equilm.actions import PixelAction
        >>> from equilm.groups import CyclicGroup
        >>> pixels = PixelAction(CyclicGroup(4))
        >>> layer = GroupLinear(pixels, (3, 3), pixels, (3, 3))
        >>> layer.weight.shape  # instead of 81
        torch.Size([21])
        >>> maps = torch.randn(2, 8, 3, 3)
        >>> torch.allclose(layer(pixels.act(maps, 1)), pixels.act(layer(maps), 1), atol=1e-6)
        True
    """

    weight_orbits: Tensor  # int64, (outputs, inputs)
    bias_orbits: Tensor  # int64, (outputs,)

    def __init__(
        self, input_action: Action, input_shape: tuple[int, ...], output_action: Action, output_shape: tuple[int, ...]
    ):
        super().__init__()
        if input_action.group != output_action.group:
            raise EquiLMError(
                f"Both actions need the same group: the input is acted on by {input_action.group}, the output by "
                f"{output_action.group}."
            )
        self.input_action, self.input_shape = input_action, input_shape
        self.output_action, self.output_shape = output_action, output_shape
        weight_orbits, bias_orbits = self.orbits()
        # Not saved: they follow from the actions.
        self.register_buffer("weight_orbits", weight_orbits, persistent=False)
        self.register_buffer("bias_orbits", bias_orbits, persistent=False)
        self.weight = nn.Parameter(torch.empty(int(weight_orbits.max()) + 1))
        self.bias = nn.Parameter(torch.empty(int(bias_orbits.max()) + 1))
        self.reset_parameters()

    def orbits(self) -> tuple[Tensor, Tensor]:
        """The numbers of the orbits of weights and biases, see `shared_weights`."""
        return shared_weights(self.input_action, self.input_shape, self.output_action, self.output_shape)

    def reset_parameters(self) -> None:
        """Draw the parameters uniformly between ∓ 1/√inputs, like those of a fully connected layer."""
        bound = 1 / math.sqrt(math.prod(self.input_shape))
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        dims = len(self.input_shape)
        if x.shape[-dims:] != self.input_shape:
            raise EquiLMError(
                f"This layer shares its weights over inputs of shape {self.input_shape}, got {tuple(x.shape[-dims:])}. "
                "Give images of the size that the layer was built for, or build it for this size."
            )
        flat = x.flatten(-dims)  # (..., inputs)
        y = nn.functional.linear(flat, self.weight[self.weight_orbits], self.bias[self.bias_orbits])
        return y.unflatten(-1, self.output_shape)

    def extra_repr(self) -> str:
        return f"{self.input_shape} -> {self.output_shape}, {self.input_action.group}"
