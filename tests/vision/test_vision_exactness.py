"""Equi-tuned image classifiers are exactly invariant, and their features equivariant, on real architectures."""

import functools
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from vision_models import ARCHITECTURES, HAS_EFFICIENTNET, Architecture

from equilm import EquiLMError
from equilm.actions import Action, PixelAction, RegularAction
from equilm.vision import EquiForImageClassification

TOLERANCE = 1e-5  # relative, in float32

architectures = pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                name == "efficientnet_lite0" and not HAS_EFFICIENTNET,
                reason="needs the package efficientnet-lite-pytorch",
            ),
        )
        for name in ARCHITECTURES
    ],
)
groups = pytest.mark.parametrize("group", ["c4", "d4"])


@functools.cache
@torch.inference_mode(False)
def classifier(name: str, size: int) -> nn.Module:
    """Its batch norms are set by a few images, or the logits of the deeper ones would hardly depend on the image."""
    torch.manual_seed(0)
    model = ARCHITECTURES[name].make(size)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a plain mean
    with torch.no_grad():
        model.train()(torch.rand(4, 3, size, size))
    return model.eval()


def error(found: Tensor, expected: Tensor) -> float:
    """Relative, of the whole tensor."""
    return float((found - expected).norm() / expected.norm())


def turns(images: Tensor, group: str) -> list[Tensor]:
    """All g·x, by hand."""
    sides = [images, images.flip(-1)] if group == "d4" else [images]
    return [torch.rot90(side, k, (-2, -1)) for side in sides for k in range(4)]


def turned_back(maps: list[Tensor]) -> list[Tensor]:
    """g⁻¹·maps[g], by hand."""
    back = [torch.rot90(copy, -(k % 4), (-2, -1)) for k, copy in enumerate(maps)]
    return [copy.flip(-1) if k >= 4 else copy for k, copy in enumerate(back)]


def logits_of(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output.logits


@architectures
@pytest.mark.parametrize(("group", "parity"), [("d4", 0), ("d4", 1), ("c4", 1)])
@torch.inference_mode()
def test_logits_are_the_mean_over_the_group_and_invariant(name: str, group: Any, parity: int) -> None:
    size = ARCHITECTURES[name].sizes[parity]
    base = classifier(name, size)
    model = EquiForImageClassification.from_base(base, group, image_size=size)
    images = torch.rand(1, 3, size, size)
    copies = turns(images, group)
    by_hand = torch.stack([logits_of(base(copy)) for copy in copies])
    found = model(torch.cat(copies)).logits  # (|G|, K)
    assert error(by_hand[1], by_hand[0]) > 1e-3  # else the rest would show nothing
    for g in range(len(copies)):
        assert error(found[g], by_hand.mean(0)[0]) < TOLERANCE


@architectures
@groups
@pytest.mark.parametrize("features", ["scalar", "regular"])
@torch.inference_mode()
def test_feature_maps_are_equivariant(name: str, group: Any, features: Any) -> None:
    architecture: Architecture = ARCHITECTURES[name]
    size = architecture.sizes[0 if features == "scalar" else 1]
    maps = architecture.maps(classifier(name, size))
    model = EquiForImageClassification.from_base(maps, group, features, num_labels=3, head="invariant", image_size=size)
    images = torch.rand(1, 3, size, size)
    copies = turns(images, group)
    found = model.extract_features(torch.cat(copies))  # (|G|, C, H, W) or (|G|, |G|, C, H, W)
    pixels = PixelAction(model.group)
    action: Action = pixels if features == "scalar" else RegularAction(pixels, dim=0)
    assert found.shape[-1] == found.shape[-2] > 1
    for g in model.group.elements:
        assert error(found[g], action.act(found[0], g)) < TOLERANCE

    output = model.backbone(torch.cat(copies))
    plain = output if isinstance(output, Tensor) else output.last_hidden_state
    if plain.ndim == 4:  # the tokens of a vision transformer are put on their grid first
        by_hand = torch.cat(turned_back(list(plain.split(1))))
        assert error(found[0], by_hand.mean(0) if features == "scalar" else by_hand) < TOLERANCE


@groups
@torch.inference_mode()
def test_the_patches_of_a_vision_transformer_are_put_on_their_grid(group: Any) -> None:
    base = classifier("small_vit", 16)
    model = EquiForImageClassification.from_base(base, group, num_labels=3, head="invariant")
    images = torch.rand(2, 3, 16, 16)
    tokens = [
        cast(Any, base).vit(copy).last_hidden_state for copy in turns(images, group)
    ]  # class token, then row by row
    maps = [copy[:, 1:].reshape(2, 4, 4, 32).permute(0, 3, 1, 2) for copy in tokens]
    assert error(model.extract_features(images), torch.stack(turned_back(maps)).mean(0)) < TOLERANCE


@pytest.mark.parametrize("head", ["invariant", "equivariant"])
@pytest.mark.parametrize("features", ["scalar", "regular"])
@groups
@pytest.mark.parametrize("size", [32, 33])
@torch.inference_mode()
def test_new_heads_are_invariant(head: Any, features: Any, group: Any, size: int) -> None:
    base = classifier("small_resnet", size)
    model = EquiForImageClassification.from_base(base, group, features, num_labels=3, head=head, image_size=size)
    copies = turns(torch.rand(2, 3, size, size), group)
    expected = model(copies[0]).logits
    assert error(expected[1], expected[0]) > 1e-3  # the head sees its images
    for copy in copies:
        assert error(model(copy).logits, expected) < TOLERANCE


@torch.inference_mode()
def test_c4_is_not_d4() -> None:
    base = classifier("small_resnet", 32)
    model = EquiForImageClassification.from_base(base, "c4", image_size=32)
    images = torch.rand(2, 3, 32, 32)
    assert error(model(images.flip(-1)).logits, model(images).logits) > 1e-3


def test_images_that_are_not_square_are_refused() -> None:
    model = EquiForImageClassification.from_base(classifier("small_resnet", 32), "c4", image_size=32)
    with pytest.raises(EquiLMError, match=r"square images, got height 32 and width 48. Pad or crop"):
        model(torch.rand(2, 3, 32, 48))
    with pytest.raises(EquiLMError, match=r"batch \(B, C, H, W\), got shape \(3, 32, 32\)"):
        model(torch.rand(3, 32, 32))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@torch.inference_mode()
def test_other_precisions(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    base = ARCHITECTURES["small_resnet"].make(32).to(dtype)
    model = EquiForImageClassification.from_base(base, "d4", num_labels=3, head="equivariant", image_size=32)
    copies = turns(torch.rand(2, 3, 32, 32, dtype=dtype), "d4")
    expected = model(copies[0]).logits
    assert expected.dtype == dtype
    for copy in copies:
        assert error(model(copy).logits, expected) < {torch.bfloat16: 2e-2, torch.float64: 1e-12}[dtype]
