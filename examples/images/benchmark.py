"""The cost of equi-tuning: speed and memory of c4 and d4, against the plain model and a loop over the group.

    python examples/images/benchmark.py                                   # EfficientNet-Lite0 at 96 pixels, 5 minutes
    python examples/images/benchmark.py --model resnet20 --image-size 32 --weights FOLDER
    python examples/images/benchmark.py --device cuda --batch 64

Every row is timed in turn with the plain model, A B A B …, after a warm-up. It shows the median, the smallest and the
largest ratio, and the ratio divided by the order of the group. A step is forward, backward and SGD. The loop is
test-time augmentation, one copy after the other, with averaged logits. On a CPU the clock is the processor time of one
thread, so that other programs do not count. Memory is the growth of the peak in the first step of a new process (on a
CPU this needs Linux).
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from image_backbones import BACKBONES
from torch import Tensor, nn
from tqdm.auto import tqdm

from equilm.actions import PixelAction
from equilm.groups import CyclicGroup, DihedralGroup, Group
from equilm.vision import EquiForImageClassification

GROUPS: dict[str, Group] = {"c4": CyclicGroup(4), "d4": DihedralGroup(4)}
KINDS = ("plain", *GROUPS, *(f"{group} loop" for group in GROUPS))


class Loop(nn.Module):
    """Test-time augmentation: a pass for each group element, with averaged logits.

    Args:
        classifier: the base model.
        group: the group.
    """

    def __init__(self, classifier: nn.Module, group: Group):
        super().__init__()
        self.classifier = classifier
        self.action = PixelAction(group)

    def forward(self, images: Tensor) -> Tensor:
        copies = [self.classifier(self.action.act(images, g)) for g in self.action.group.elements]
        return torch.stack(copies).mean(0)


@dataclass(frozen=True)
class Setting:
    """The settings of a measurement.

    Args:
        model: the name of the base model.
        weights: the folder of weights, for models that need one.
        image_size: height and width of the images, in pixels.
        batch: the number of images in a batch.
        device: the device to run on.
    """

    model: str
    weights: Path | None
    image_size: int
    batch: int
    device: str

    def build(self, kind: str) -> nn.Module:
        """A model that returns logits, or an object with logits."""
        torch.manual_seed(0)
        base = BACKBONES[self.model].load(self.weights).to(self.device)
        if kind == "plain":
            return base
        if kind.endswith("loop"):
            return Loop(base, GROUPS[kind.split()[0]])
        return EquiForImageClassification.from_base(base, kind, image_size=self.image_size)  # type: ignore[arg-type]

    def work(self, kind: str, training: bool) -> Callable[[], None]:
        """One step, or one pass without gradients."""
        model = self.build(kind).train(training)
        images = torch.rand(self.batch, 3, self.image_size, self.image_size, device=self.device)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)

        def logits() -> Tensor:
            output = model(images)
            return output if isinstance(output, Tensor) else output.logits

        def step() -> None:
            optimizer.zero_grad()
            logits().logsumexp(-1).mean().backward()
            optimizer.step()

        def look() -> None:
            with torch.inference_mode():
                logits()

        return step if training else look


def seconds(work: Callable[[], None], device: str) -> float:
    """The time of one run."""
    if device == "cpu":
        start = time.process_time()
        work()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def growth(setting: Setting, kind: str, training: bool) -> float:
    """The growth of peak memory in one run, in MiB; call it in a new process."""
    torch.set_num_threads(1)
    work = setting.work(kind, training)
    if setting.device != "cpu":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to what is in use now
    work()
    return _resident("VmHWM") - before


def _resident(name: str) -> float:
    """A line of Linux's status of this process, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 2**10


def in_fresh_process(setting: Setting, kind: str, training: bool) -> float:
    """See `growth`."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(growth, (setting, kind, training))


def main() -> None:
    """Time everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=BACKBONES, default="efficientnet-lite0")
    parser.add_argument("--weights", type=Path, help="the folder of weights of the CIFAR ResNets")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    setting = Setting(arguments.model, arguments.weights, arguments.image_size, arguments.batch, arguments.device)
    torch.set_num_threads(1)
    print(f"{setting.model}, {setting.image_size} pixels, batches of {setting.batch}, {setting.device}\n")
    print("| | model | images/s | time / plain | for each element | memory, MiB |\n" + "|---" * 6 + "|")
    measure = partial(seconds, device=setting.device)
    for training in (True, False):
        plain = setting.work("plain", training)
        plain()
        for kind in tqdm(KINDS, leave=False):
            work = setting.work(kind, training)
            work()
            times = [(measure(work), measure(plain)) for _ in range(arguments.rounds)]
            ratios = [ours / theirs for ours, theirs in times]
            order = 1 if kind == "plain" else GROUPS[kind.split()[0]].order
            ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} … {max(ratios):.2f})"
            speed = setting.batch / statistics.median(ours for ours, _ in times)
            cells = [
                "step" if training else "pass",
                kind,
                f"{speed:.1f}",
                ratio,
                f"{statistics.median(ratios) / order:.2f}",
                f"{in_fresh_process(setting, kind, training):.0f}",
            ]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
