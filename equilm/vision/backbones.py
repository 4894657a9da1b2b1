"""Base models: their features, the layer that makes their logits, and how to build them from a configuration."""

import copy
from dataclasses import dataclass
from typing import Any, cast

import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils.generic import ModelOutput

from ..errors import EquiLMError
from .configuration_vision import BackboneClass, EquiImageConfig

# What each auto class builds, by the type of the configuration; the first that fits is taken.
_MODELS: dict[BackboneClass, Any] = {
    "AutoModelForImageClassification": transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    "AutoModel": transformers.MODEL_MAPPING,
    "AutoBackbone": transformers.MODEL_FOR_BACKBONE_MAPPING,
}


def select_features(output: Any, images: Tensor, config: PreTrainedConfig | None) -> Tensor:
    """The tensor in a base model's output that is equi-tuned: its logits, or else its last feature maps.

    Args:
        output: what the base model returned for ``images``.
        images: shape ``(n, C, H, W)``.
        config: the base model's configuration, if it is a model of transformers.

    Returns:
        Shape ``(n, D)`` or ``(n, C, H', W')``.

    Raises:
        EquiLMError: if there is no such tensor.
    """
    found = output
    if isinstance(output, ModelOutput):
        if "logits" in output:
            found = output["logits"]
        elif "feature_maps" in output:
            found = output["feature_maps"][-1]
        elif "last_hidden_state" in output:
            found = output["last_hidden_state"]
            if found.ndim == 3 and config is not None:
                found = _token_maps(found, images, config)
    if not isinstance(found, Tensor) or found.ndim not in (2, 4):
        shape = f" of shape {tuple(found.shape)}" if isinstance(found, Tensor) else ""
        raise EquiLMError(
            "A base model returns logits or pooled features (batch, D), or feature maps (batch, C, H, W), got a "
            f"{type(found).__name__}{shape}. Wrap it in a module that returns one of these; for transformers' models "
            "whose patches are not on the grid of config.patch_size, load AutoBackbone."
        )
    return found


def _token_maps(tokens: Tensor, images: Tensor, config: PreTrainedConfig) -> Tensor:
    """The patches of a vision transformer arranged on their grid: from ``(n, T, D)`` to ``(n, D, H', W')``.

    Class and register tokens come first and are left out.
    """
    patch = config.to_dict().get("patch_size")
    if not isinstance(patch, int):
        return tokens
    height, width = images.shape[-2] // patch, images.shape[-1] // patch
    if not 0 < height * width <= tokens.shape[1]:
        return tokens
    return tokens[:, -height * width :].transpose(1, 2).unflatten(-1, (height, width))


@dataclass(frozen=True)
class Probe:
    """The features that a base model makes of one image.

    Args:
        shape: the shape of the features, without the batch.
        own_head: the name of the linear layer that returns them, if there is one.
    """

    shape: tuple[int, ...]
    own_head: str | None


def probe(backbone: nn.Module, num_channels: int, image_size: int) -> Probe:
    """Run the base model on one random image, in evaluation mode, and look at its output."""
    made: list[tuple[str, Tensor, int]] = []
    hooks = [
        # The version tells apart the layer's output and what an in-place ReLU made of it.
        module.register_forward_hook(lambda _, __, out, name=name: made.append((name, out, out._version)))
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Linear)
    ]
    training = [module for module in backbone.modules() if module.training]
    like = next(backbone.parameters(), torch.empty(0))
    images = torch.rand(1, num_channels, image_size, image_size).to(like)
    backbone.eval()
    try:
        with torch.inference_mode(False), torch.no_grad():
            features = select_features(backbone(images), images, base_config(backbone))
    finally:
        for hook in hooks:
            hook.remove()
        for module in training:
            module.training = True
    names = [name for name, out, version in made if out is features and version == features._version]
    return Probe(tuple(features.shape[1:]), names[-1] if names else None)


def base_config(backbone: nn.Module) -> PreTrainedConfig | None:
    """The configuration of a model of transformers; None for other modules."""
    return backbone.config if isinstance(backbone, PreTrainedModel) else None


def backbone_class(backbone: nn.Module) -> BackboneClass | None:
    """The auto class of transformers that builds a model of exactly this type; None if there is none."""
    if not isinstance(backbone, PreTrainedModel):
        return None
    for name, mapping in _MODELS.items():
        if type(backbone.config) in mapping:
            found = mapping[type(backbone.config)]
            if type(backbone) in (found if isinstance(found, tuple) else (found,)):
                return name
    return None


def build_backbone(config: EquiImageConfig) -> nn.Module:
    """A base model without weights, from its configuration.

    Raises:
        EquiLMError: if transformers cannot build a model of this type.
    """
    if config.backbone_class is None or config.backbone_config is None:
        raise EquiLMError(
            "This model was made from a module that transformers cannot build, and no code is run from a file. Build "
            "the module as before and give it: EquiForImageClassification.from_pretrained(..., backbone=module)."
        )
    model = getattr(transformers, config.backbone_class).from_config(config.backbone_config)
    return without_head(model) if config.head != "own" else model


def without_head(model: PreTrainedModel) -> PreTrainedModel:
    """The model inside an image classifier of transformers; any other model unchanged."""
    inside = model.base_model if backbone_class(model) == "AutoModelForImageClassification" else model
    return cast(PreTrainedModel, inside)


def fit_own_head(backbone: nn.Module, config: EquiImageConfig) -> nn.Module:
    """The base model with the head that the configuration asks for: its own, a new linear layer in its place, or none.

    Returns:
        The module itself, or a changed copy of it.
    """
    if config.own_head is None:
        return backbone
    layer = dict(backbone.named_modules()).get(config.own_head)
    if not isinstance(layer, nn.Linear) or (config.head == "own" and layer.out_features == config.labels):
        return backbone
    new: nn.Module = nn.Identity()
    if config.head == "own":
        weight = layer.weight
        new = nn.Linear(layer.in_features, config.labels, layer.bias is not None, weight.device, weight.dtype)
    backbone = copy.deepcopy(backbone)
    backbone.set_submodule(config.own_head, new)
    if isinstance(backbone, PreTrainedModel):
        backbone.config.num_labels = config.labels
    return backbone
