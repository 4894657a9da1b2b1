"""The equi-tune transform of any module: the Reynolds operator, M_G(x) = 1/|G| Σ_g g⁻¹ M(g x) (paper, eq. 3)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .actions import Action
from .errors import EquiLMError

__all__ = [
    "EquiTuned",
    "LearnedWeights",
    "equi_tune",
    "group_copies",
    "reynolds",
    "transform_back",
]


def group_copies(x: Tensor, action: Action) -> Tensor:
    """All of ``g·x``: shape ``(|G|, *x.shape)``."""
    return torch.stack([action.act(x, g) for g in action.group.elements])


def transform_back(outputs: Tensor, action: Action) -> Tensor:
    """``g⁻¹·outputs[g]`` for every g: the regular features M_G^R of the paper's appendix H.

    Args:
        outputs: M(g x), indexed by the group: shape ``(|G|, ...)``.
        action: the action on one output.

    Returns:
        Shape ``(|G|, ...)``.
    """
    return torch.stack([action.act(outputs[g], action.group.inverse(g)) for g in action.group.elements])


def reynolds(outputs: Tensor, action: Action, weights: Tensor | None = None) -> Tensor:
    """The mean of ``g⁻¹·outputs[g]`` over the group (paper, eq. 3), or their mean weighted by λ(gx).

    Sums in float32 or higher, so that half-precision outputs do not depend on the order of summation.

    Args:
        outputs: M(g x), indexed by the group: shape ``(|G|, batch, ...)``.
        action: the action on one output.
        weights: λ(gx) ≥ 0 with a positive sum over g, shape ``(|G|, batch)`` or with more of the outputs' dimensions:
            Σ_g λ(gx) g⁻¹M(gx) / Σ_g λ(gx) (λ-equitune, NeurIPS 2023).

    Returns:
        Shape ``(batch, ...)``, the dtype of ``outputs``.
    """
    group = action.group
    total = torch.zeros_like(outputs[0], dtype=torch.promote_types(outputs.dtype, torch.float32))
    if weights is not None:  # normalised, and broadcast over the dimensions that they do not have
        weights = weights.to(total.dtype) / weights.sum(0, dtype=total.dtype)
        weights = weights.reshape(*weights.shape, *[1] * (outputs.ndim - weights.ndim))
    for g in group.elements:
        summand = action.act(outputs[g], group.inverse(g))
        total = total + (summand if weights is None else summand * weights[g])
    return (total / group.order if weights is None else total).to(outputs.dtype)


class LearnedWeights(nn.Module):
    """A learned λ(gx) of λ-equitune, from features of gx: softplus(w·features + b).

    It is one function for all g, so the weighted mean is as equivariant as the mean, whatever w and b are. They begin
    at 0, where all weights are equal.

    Args:
        size: the number of features, the last dimension of what it is given.
    """

    def __init__(self, size: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, features: Tensor) -> Tensor:
        """Weights of shape ``(...)``, positive, float32 at least, from features of shape ``(..., size)``."""
        dtype = torch.promote_types(features.dtype, torch.float32)
        score = features.to(dtype) @ self.weight.to(dtype) + self.bias.to(dtype)
        return nn.functional.softplus(score) + 1e-6  # some weight is left where all scores are very low


class EquiTuned(nn.Module):
    """A module made equivariant by the equi-tune transform; build it with `equi_tune`."""

    def __init__(
        self,
        module: nn.Module,
        input_action: Action,
        output_action: Action,
        weights: Callable[[Tensor], Tensor] | None = None,
    ):
        super().__init__()
        self.module = module
        self.input_action = input_action
        self.output_action = output_action
        self.weights = weights  # an nn.Module here is registered, so learned weights train along

    def forward(self, x: Tensor) -> Tensor:
        order, batch = self.input_action.group.order, len(x)
        copies = group_copies(x, self.input_action).flatten(0, 1)  # (|G|·B, ...)
        outputs = self.module(copies)  # (|G|·B, ...)
        if not isinstance(outputs, Tensor):
            raise EquiLMError(
                f"{type(self.module).__name__} returned a {type(outputs).__name__}, but the equi-tune transform "
                "averages one tensor. Wrap the module so that it returns that tensor."
            )
        weights = None if self.weights is None else self.weights(copies).view(order, batch)  # (|G|, B)
        return reynolds(outputs.unflatten(0, (order, batch)), self.output_action, weights)  # (B, ...)


def equi_tune(
    module: nn.Module,
    input_action: Action,
    output_action: Action,
    weights: Callable[[Tensor], Tensor] | None = None,
) -> EquiTuned:
    """Make any module equivariant: M_G(h·x) = h·M_G(x) for every h (paper, eq. 3), all group copies in one batch.

    Args:
        module: M, from a tensor of shape ``(batch, ...)`` to one of shape ``(batch, ...)``. It is shared, not copied.
        input_action: how the group acts on the input.
        output_action: how the same group acts on the output.
        weights: λ, from a batch ``(n, ...)`` of inputs to ``(n,)`` non-negative weights; None gives all copies the
            same weight. λ itself need not be equivariant.

    Raises:
        EquiLMError: if the actions have different groups.

    Example:
        >>> import torch
        >>> from equilm.actions import PixelAction, TrivialAction
        >>> from equilm.groups import CyclicGroup
        >>> classifier = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 10))
        >>> c4 = CyclicGroup(4)
        >>> invariant = equi_tune(classifier, PixelAction(c4), TrivialAction(c4))
        >>> images = torch.randn(2, 3, 8, 8)
        >>> torch.allclose(invariant(images), invariant(images.rot90(1, (-2, -1))), atol=1e-5)
        True
    """
    if input_action.group != output_action.group:
        raise EquiLMError(
            f"Both actions need the same group: the input is acted on by {input_action.group}, the output by "
            f"{output_action.group}."
        )
    return EquiTuned(module, input_action, output_action, weights)
