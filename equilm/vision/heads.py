"""Heads on equivariant features, with invariant logits: pooling, or the paper's layer with shared parameters."""

from torch import Tensor, nn

from ..actions import Action, TrivialAction
from .group_linear import GroupLinear


class InvariantHead(nn.Module):
    """Pools the features to something fixed by the group, followed by one linear layer.

    Pixels are averaged. For regular features the head takes the maximum over the group; their mean would just give the
    scalar features again.

    Args:
        channels: the number of channels of the features.
        num_labels: the number of labels.
        stacked: whether the features are regular.
    """

    def __init__(self, channels: int, num_labels: int, stacked: bool):
        super().__init__()
        self.stacked = stacked
        self.classifier = nn.Linear(channels, num_labels)

    def forward(self, features: Tensor) -> Tensor:
        """From ``(B, C)``, ``(B, C, H, W)`` or their stacks ``(B, |G|, ...)`` to logits ``(B, num_labels)``."""
        if features.ndim > 3:  # maps
            features = features.mean((-2, -1))
        return self.classifier(features.amax(1) if self.stacked else features)


class EquivariantHead(nn.Module):
    """The paper's custom equivariant layer (section 5.1): weights shared over pairs of pixels, equal in all channels.

    It is an equivariant layer from maps to maps, ELU, an invariant layer from maps to one number for each channel, and
    a linear layer from channels to labels. For regular features, weights are shared over pairs of (element, pixel).

    Args:
        action: how the group acts on one channel of the features.
        shape: the shape of one channel: ``(size, size)``, or ``(|G|, size, size)`` for regular features.
        channels: the number of channels of the features.
        num_labels: the number of labels.
    """

    def __init__(self, action: Action, shape: tuple[int, ...], channels: int, num_labels: int):
        super().__init__()
        self.equivariant = GroupLinear(action, shape, action, shape)
        self.invariant = GroupLinear(action, shape, TrivialAction(action.group), (1,))
        self.classifier = nn.Linear(channels, num_labels)

    def forward(self, features: Tensor) -> Tensor:
        """From ``(B, C, H, W)`` or ``(B, |G|, C, H, W)`` to logits ``(B, num_labels)``."""
        maps = features.movedim(-3, 1)  # (B, C, ...)
        # Not ReLU: on features that are all positive, the few shared weights could make it 0 for every image.
        hidden = nn.functional.elu(self.equivariant(maps))
        return self.classifier(self.invariant(hidden).squeeze(-1))
