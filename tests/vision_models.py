"""The architectures that the image tests run on, with random weights: the paper's four and others."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from image_backbones import CifarResNet, Maps
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetForImageClassification, ViTConfig, ViTForImageClassification

HAS_TORCHVISION = find_spec("torchvision") is not None
HAS_EFFICIENTNET = find_spec("efficientnet_lite_pytorch") is not None
LABELS = 7


class Classifier(nn.Module):
    """Feature maps, pooled to a square, then a classifier: the form of torchvision's AlexNet and VGG."""

    def __init__(self, features: nn.Sequential, pooled: int, channels: int):
        super().__init__()
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d(pooled)
        self.classifier = nn.Sequential(
            nn.Dropout(), nn.Linear(channels * pooled**2, 64), nn.ReLU(inplace=True), nn.Linear(64, LABELS)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(images)).flatten(1))


def _layers(*sizes: int | str, norm: bool) -> nn.Sequential:
    """3×3 convolutions of these many channels, and poolings ("M")."""
    layers: list[nn.Module] = []
    channels = 3
    for size in sizes:
        if isinstance(size, str):
            layers.append(nn.MaxPool2d(2))
        else:
            layers.append(nn.Conv2d(channels, size, 3, padding=1))
            layers += [nn.BatchNorm2d(size)] * norm + [nn.ReLU(inplace=True)]
            channels = size
    return nn.Sequential(*layers)


def alexnet() -> nn.Module:
    """torchvision's, or its convolutions with narrower layers after them."""
    if HAS_TORCHVISION:
        from torchvision.models import alexnet as torchvision_alexnet

        return torchvision_alexnet(num_classes=LABELS)
    pool, relu = nn.MaxPool2d(3, 2), nn.ReLU(inplace=True)
    convolutions = [nn.Conv2d(3, 64, 11, 4, 2), relu, pool, nn.Conv2d(64, 192, 5, padding=2), relu, pool]
    more = [nn.Conv2d(192, 384, 3, padding=1), relu, nn.Conv2d(384, 256, 3, padding=1), relu]
    return Classifier(nn.Sequential(*convolutions, *more, nn.Conv2d(256, 256, 3, padding=1), relu, pool), 6, 256)


def vgg11() -> nn.Module:
    """torchvision's, with batch norm, or its convolutions with narrower layers after them."""
    if HAS_TORCHVISION:
        from torchvision.models import vgg11_bn

        return vgg11_bn(num_classes=LABELS)
    sizes = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")
    return Classifier(_layers(*sizes, norm=True), 7, 512)


class _Dense(nn.Module):
    """One layer of a dense block: its output is put beside its input."""

    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 32, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.layers(x)], 1)


class DenseNet121(nn.Module):
    """Huang et al. (2017), without torchvision."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
        layers.append(nn.MaxPool2d(3, 2, 1))
        channels = 64
        for block, depth in enumerate((6, 12, 24, 16)):
            if block:
                halved = nn.Conv2d(channels, channels // 2, 1, bias=False)
                layers += [nn.BatchNorm2d(channels), nn.ReLU(), halved, nn.AvgPool2d(2)]
                channels //= 2
            layers += [_Dense(channels + 32 * layer) for layer in range(depth)]
            channels += 32 * depth
        self.features = nn.Sequential(*layers, nn.BatchNorm2d(channels))
        self.classifier = nn.Linear(channels, LABELS)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images).relu().mean((-2, -1)))


def densenet121() -> nn.Module:
    """torchvision's, or our own."""
    if HAS_TORCHVISION:
        from torchvision.models import densenet121 as torchvision_densenet121

        return torchvision_densenet121(num_classes=LABELS)
    return DenseNet121()


def resnet18() -> nn.Module:
    """torchvision's, or that of transformers."""
    if HAS_TORCHVISION:
        from torchvision.models import resnet18 as torchvision_resnet18

        return torchvision_resnet18(num_classes=LABELS)
    sizes, depths = [64, 128, 256, 512], [2, 2, 2, 2]
    return ResNetForImageClassification(resnet_config(LABELS, hidden_sizes=sizes, depths=depths, layer_type="basic"))


def resnet_config(labels: int, **settings: Any) -> ResNetConfig:
    """A configuration of transformers."""
    settings["num_labels"] = labels
    return ResNetConfig(**settings)


def small_resnet(labels: int = LABELS) -> ResNetForImageClassification:
    """Of transformers."""
    return ResNetForImageClassification(resnet_config(labels, embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]))


def small_vit(image_size: int, labels: int = LABELS) -> ViTForImageClassification:
    """Of transformers."""
    settings: dict[str, Any] = {"image_size": image_size, "patch_size": image_size // 4, "num_labels": labels}
    config = ViTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, **settings)
    return ViTForImageClassification(config)


def efficientnet_lite0() -> nn.Module:
    """From its package, without the weights."""
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_name("efficientnet-lite0", num_classes=LABELS)


def plain_classifier() -> nn.Sequential:
    """A classifier that nothing but torch knows; for images of 12 × 12."""
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Tanh(), nn.Flatten(), nn.Linear(6 * 100, LABELS))


@dataclass(frozen=True)
class Architecture:
    """A classifier, the part of it that makes feature maps, and sizes to test it at.

    Args:
        make: the classifier, for images of a size.
        maps: the module that makes its feature maps, or the classifier where `from_base` takes them by itself.
        sizes: the sizes of the images, in pixels.
    """

    make: Callable[[int], nn.Module]
    maps: Callable[[nn.Module], nn.Module]
    sizes: tuple[int, int]


def _children(classifier: nn.Module) -> nn.Module:
    """All but the last child, as in the authors' code."""
    return nn.Sequential(*list(classifier.children())[:-1])


def _same(classifier: nn.Module) -> nn.Module:
    return classifier


ARCHITECTURES = {
    "alexnet": Architecture(lambda _: alexnet(), _children, (64, 71)),
    "resnet18": Architecture(
        lambda _: resnet18(),
        lambda model: nn.Sequential(*list(model.children())[:-2]) if HAS_TORCHVISION else model,
        (40, 45),
    ),
    "vgg11": Architecture(lambda _: vgg11(), _children, (32, 39)),
    "densenet121": Architecture(lambda _: densenet121(), _children, (64, 75)),
    "small_resnet": Architecture(lambda _: small_resnet(), _same, (32, 33)),
    "small_vit": Architecture(small_vit, _same, (16, 20)),
    "cifar_resnet20": Architecture(lambda _: CifarResNet(3), lambda model: Maps(model, "maps"), (32, 29)),
    "cifar_resnet56": Architecture(lambda _: CifarResNet(9), lambda model: Maps(model, "maps"), (16, 21)),
    "efficientnet_lite0": Architecture(
        lambda _: efficientnet_lite0(), lambda model: Maps(model, "extract_features"), (64, 75)
    ),
}
