"""A peer in the same table: equiadapt's canonicalization (Mondal et al., NeurIPS 2023) of the same base model.

    python examples/images/peer_equiadapt.py cifar10 --data FOLDER --weights FOLDER --models resnet20 --head own \
        --seeds 0 1 2 --train-images 1000 --test-images 2000 --epochs 1 --augmentation none

The options are those of run.py. A small equivariant network chooses a pose and turns each image to it. The base model
sees only this image, so the cost is little more than that of the base model. The network's settings and the weight of
its loss are those of equiadapt's example for CIFAR-10, with the network that needs no further library. Needs
`pip install equiadapt==0.1.2 omegaconf`.
"""

import run
import torch
from torch import Tensor, nn

PRIOR_WEIGHT = 100.0
SETTINGS = {"beta": 1.0, "input_crop_ratio": 0.8, "resize_shape": 32}
NETWORK = {"out_channels": 32, "kernel_size": 5, "num_layers": 3, "num_rotations": 4}


class Canonicalised(nn.Module):
    """A classifier behind a canonicalizer that is trained with it; the prior is that training images are upright.

    Args:
        plain: the classifier.
        size: height and width of the images, in pixels.
        group_type: ``"rotation"`` or ``"roto-reflection"``.
    """

    def __init__(self, plain: run.Plain, size: int, group_type: str):
        try:
            from equiadapt.images.canonicalization.discrete_group import GroupEquivariantImageCanonicalization
            from equiadapt.images.canonicalization_networks.custom_equivariant_networks import CustomEquivariantNetwork
            from omegaconf import OmegaConf
        except ImportError as error:
            raise SystemExit(f"{error}: pip install equiadapt==0.1.2 omegaconf") from error
        super().__init__()
        self.plain = plain
        resized = SETTINGS["resize_shape"]
        network = CustomEquivariantNetwork((3, resized, resized), group_type=group_type, device="cpu", **NETWORK)
        network.group_type, network.num_rotations = group_type, 4  # equiadapt 0.1.2 asks for these, but sets neither
        self.canonicaliser = GroupEquivariantImageCanonicalization(network, OmegaConf.create(SETTINGS), (3, size, size))

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        output = self.plain(self.canonicaliser(pixel_values), labels)
        if labels is not None and torch.is_grad_enabled():
            output["loss"] = output["loss"] + PRIOR_WEIGHT * self.canonicaliser.get_prior_regularization_loss()
        return output


run.PEERS["equiadapt c4"] = lambda plain, size: Canonicalised(plain, size, "rotation")
run.PEERS["equiadapt d4"] = lambda plain, size: Canonicalised(plain, size, "roto-reflection")

if __name__ == "__main__":
    run.main()
