"""From the arguments of `from_base` to what is built: the part of the base to wrap, the head, the configuration."""

import copy
from typing import Any, cast, get_args

import torch
from torch import nn
from transformers import PreTrainedModel

from ..errors import EquiLMError
from .backbones import Probe, backbone_class, base_config, probe, without_head
from .configuration_vision import EquiImageConfig, Features, Head, ImageGroup, check_choice


def config_and_backbone(
    base: nn.Module,
    group: ImageGroup,
    features: Features,
    num_labels: int | None,
    head: Head | None,
    freeze_backbone: bool,
    image_size: int | None,
    num_channels: int | None,
) -> tuple[EquiImageConfig, nn.Module]:
    """The configuration for these arguments of `EquiForImageClassification.from_base`, and the module to wrap.

    Raises:
        EquiLMError: for a base model without a usable output, and for heads that do not fit its features.
    """
    given, built_by = base_config(base), backbone_class(base)
    known = given.to_dict() if given else {}
    if image_size is None:
        image_size = known["image_size"] if isinstance(known.get("image_size"), int) else 224
    if num_channels is None:
        num_channels = known.get("num_channels", 3)

    found = probe(base, num_channels, image_size)
    own_labels = found.shape[0] if len(found.shape) == 1 else None  # if it has a head
    head = _choose_head(found, own_labels, features, num_labels, head)
    if head == "own":
        num_labels = num_labels or own_labels
    elif isinstance(base, PreTrainedModel):
        base = without_head(base)
        found = probe(base, num_channels, image_size)
    if num_labels is None:
        raise EquiLMError(
            "A new head is drawn for this base model, and it needs to know how many labels there are: give num_labels=."
        )
    shape = found.shape
    if head != "own" and found.own_head is not None:  # its input is what the new head sees
        shape = (cast(nn.Linear, base.get_submodule(found.own_head)).in_features,)

    settings: dict[str, Any] = {"num_labels": num_labels}
    if given:
        settings["backbone_config"] = copy.deepcopy(given)
        settings["attn_implementation"] = given._attn_implementation
        if own_labels == num_labels:
            settings |= {"id2label": given.id2label, "label2id": given.label2id}
        elif head == "own":
            settings["backbone_config"].num_labels = num_labels
    config = EquiImageConfig(
        backbone_class=built_by,
        group=group,
        features=features,
        head=head,
        own_head=found.own_head,
        feature_shape=list(shape),
        freeze_backbone=freeze_backbone,
        image_size=image_size,
        num_channels=num_channels,
        dtype=next(base.parameters(), torch.empty(0)).dtype,
        **settings,
    )
    return config, base


def _choose_head(
    found: Probe, own_labels: int | None, features: Features, num_labels: int | None, head: Head | None
) -> Head:
    replaceable = found.own_head is not None
    if head is None:
        keeps = num_labels in (None, own_labels) or (replaceable and features == "scalar")
        return "own" if own_labels and keeps else "invariant"
    check_choice("head", head, get_args(Head))
    if head == "own" and (own_labels is None or not (num_labels in (None, own_labels) or replaceable)):
        raise EquiLMError(
            f"head='own' needs a base model that gives {num_labels or 'its'} logits, or whose logits a linear layer "
            f"makes, got features of shape (batch, {', '.join(map(str, found.shape))}). Give head='invariant'."
        )
    return head
