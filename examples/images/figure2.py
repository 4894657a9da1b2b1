"""Fig. 2 of the paper as a picture: features of an image and its quarter turns, plain and equi-tuned.

    python examples/images/figure2.py                           # EfficientNet-Lite0 and a portrait, to figure2.png
    python examples/images/figure2.py --image PHOTO --model alexnet             # the paper's model; needs torchvision

The first row shows the turned images, the second one channel of the base model's feature maps, and the third the same
channel of the equi-tuned model's. The number below each map is its distance from the first map after the same turn: 0
if the features turn with the image.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from image_backbones import BACKBONES
from image_data import prepare
from matplotlib.cbook import get_sample_data
from PIL import Image

from equilm.actions import PixelAction
from equilm.groups import CyclicGroup
from equilm.symmetrize import group_copies
from equilm.vision import EquiForImageClassification

TURNS = PixelAction(CyclicGroup(4))


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, help="a photograph; by default that of Grace Hopper in matplotlib")
    parser.add_argument("--model", choices=BACKBONES, default="efficientnet-lite0")
    parser.add_argument("--weights", type=Path, help="the folder of weights of the CIFAR ResNets")
    parser.add_argument("--output", type=Path, default=Path("figure2.png"))
    arguments = parser.parse_args()

    base = BACKBONES[arguments.model]
    maps = base.maps(base.load(arguments.weights)).eval()
    model = EquiForImageClassification.from_base(maps, "c4", num_labels=2, image_size=base.image_size)
    with Image.open(arguments.image or get_sample_data("grace_hopper.jpg")) as photograph:
        pixels = prepare(photograph, base.image_size) / 255
    copies = group_copies(pixels, TURNS)  # (4, 3, H, W)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (base.mean, base.std))
    with torch.inference_mode():
        plain, equi_tuned = (features((copies - mean) / std) for features in (maps, model.extract_features))
    channel = int(equi_tuned[0].flatten(1).std(1).argmax())  # where there is something to see

    rows = [
        ("images", copies.permute(0, 2, 3, 1)),
        ("plain", plain[:, channel]),
        ("equi-tuned", equi_tuned[:, channel]),
    ]
    figure, axes = plt.subplots(3, 4, figsize=(6.4, 5.2), layout="constrained")
    for row, (name, pictures) in zip(axes, rows, strict=True):
        for g, (axis, picture) in enumerate(zip(row, pictures, strict=True)):
            axis.imshow(picture.numpy(), cmap="viridis", vmin=float(pictures.min()), vmax=float(pictures.max()))
            axis.set_xticks([])
            axis.set_yticks([])
            if name == "images":
                axis.set_title(f"{90 * g}°")
            else:
                gap = (picture - TURNS.act(pictures[0], g)).norm() / pictures[0].norm()
                axis.set_xlabel(f"{gap:.1e}" if gap else "0")
        row[0].set_ylabel(name)
    figure.savefig(arguments.output, dpi=80)
    print(f"channel {channel} of {plain.shape[1]}: {arguments.output}")


if __name__ == "__main__":
    main()
