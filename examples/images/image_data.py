"""Hymenoptera and CIFAR-10 for the image experiments: prepared, subsampled and turned by quarter turns."""

import copy
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from datasets import Dataset, load_dataset
from image_backbones import Backbone
from PIL import Image
from torch import Tensor

from equilm.actions import PixelAction
from equilm.groups import CyclicGroup

CROP = 0.875  # for the shorter side of a photograph, as in the training of the base models
TURN = PixelAction(CyclicGroup(4))


def load_rows(name: str, folder: Path | None) -> tuple[Dataset, Dataset]:
    """Training and test images of ``"hymenoptera"`` or ``"cifar10"``: rows of ``image`` and ``label``.

    Args:
        name: the data set.
        folder: the folder of Hymenoptera with ``train`` and ``val``, or a folder with CIFAR-10 in ``train.parquet`` and
            ``test.parquet``. None loads CIFAR-10 from the Hub.
    """
    if name == "hymenoptera":
        if folder is None:
            raise SystemExit("Hymenoptera has no Hub id: name its folder, with train and val, with --data")
        splits = load_dataset("imagefolder", data_dir=str(folder))
        return splits["train"], splits["validation"]
    if folder is None:
        splits = load_dataset("uoft-cs/cifar10")
    else:
        splits = load_dataset(
            "parquet", data_files={part: str(folder / f"{part}.parquet") for part in ("train", "test")}
        )
    splits = splits.rename_column("img", "image")
    return splits["train"], splits["test"]


def prepare(image: Image.Image, size: int) -> Tensor:
    """The center of an image as uint8, shape ``(3, size, size)``, or smaller if the image is smaller."""
    image = image.convert("RGB")
    if min(image.size) > size:
        scale = size / CROP / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
        left, top = (image.width - size) // 2, (image.height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


class Images(torch.utils.data.Dataset[dict[str, Any]]):
    """Prepared images, kept in memory; each can be turned.

    Args:
        rows: the rows, with ``image`` and ``label``.
        size: height and width of the model's input, in pixels.
        backbone: the base model, whose mean and standard deviation normalize the pixels.
        turns: None leaves the images as they are; ``"random"`` draws a quarter turn each time an image is read (c4
            augmentation); a seed draws the turn of each image once.
    """

    def __init__(self, rows: Dataset, size: int, backbone: Backbone, turns: int | Literal["random"] | None = None):
        self.pixels = [prepare(image, size) for image in rows["image"]]
        self.labels = list(rows["label"])
        self.size = size
        self.mean, self.std = (torch.tensor(values).view(3, 1, 1) for values in (backbone.mean, backbone.std))
        self._turn(turns)

    def _turn(self, turns: int | Literal["random"] | None) -> None:
        self.turns: list[int] | Literal["random"] | None = None
        if isinstance(turns, int):
            self.turns = torch.randint(4, (len(self),), generator=torch.Generator().manual_seed(turns)).tolist()
        else:
            self.turns = turns

    def turned(self, turns: int | Literal["random"] | None) -> "Images":
        """The same images, turned in another way."""
        images = copy.copy(self)
        images._turn(turns)
        return images

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = self.pixels[index] / 255
        if image.shape[-1] < self.size:
            image = torch.nn.functional.interpolate(image[None], (self.size, self.size), mode="bicubic")[0]
        image = (image - self.mean) / self.std
        if self.turns is not None:
            turn = int(torch.randint(4, ())) if self.turns == "random" else self.turns[index]
            image = TURN.act(image, turn)
        return {"pixel_values": image, "labels": self.labels[index]}
