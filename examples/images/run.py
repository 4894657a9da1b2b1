"""Table 1 and Table 6 of the paper: fine-tuned and equi-tuned image classifiers, tested on turned images.

    python examples/images/run.py hymenoptera --data FOLDER  # Table 1, the paper's settings: torchvision, a GPU
    python examples/images/run.py cifar10                    # Table 6
    python examples/images/run.py cifar10 --table            # only print the tables of the runs so far

Each model is trained plainly and with the groups c4 and d4, with and without c4 augmentation of the training images.
The test images are turned at random. ``--head equivariant``, as in the paper, gives the feature maps to layers that
share their parameters over pixels, and in the plain model to the same layers without sharing. ``--head own`` keeps the
model's own head, with a new last layer if the number of labels differs. Every finished run is a line in a file and is
not repeated. The tables are written to the same folder. Accuracies are those after the last epoch. The runs in
results/, on one core:

    python examples/images/run.py hymenoptera --data FOLDER --models efficientnet-lite0 --head own \
        --image-size 96 --epochs 2 --learning-rate 1e-3 --channels-last
    python examples/images/run.py cifar10 --data FOLDER --weights FOLDER --models resnet20 --head own \
        --seeds 0 1 2 --train-images 1000 --test-images 2000 --epochs 1
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from image_backbones import BACKBONES
from image_data import Images, load_rows
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import EvalPrediction, Trainer, TrainingArguments, set_seed
from transformers.trainer_utils import SaveStrategy

from equilm.actions import TrivialAction
from equilm.groups import CyclicGroup
from equilm.vision import EquiForImageClassification, EquivariantHead

HERE = Path(__file__).parent
LABELS = {"hymenoptera": 2, "cifar10": 10}
# The paper's Table 1, Hymenoptera: (model, group) -> without and with c4 augmentation. We do not have its Table 6; the
# text says that d4 is the best group for all models there.
PAPER = {
    ("alexnet", "none"): ("88.88 (4.5)", "91.11 (1.3)"),
    ("alexnet", "c4"): ("93.07 (1.8)", "93.07 (1.8)"),
    ("alexnet", "d4"): ("90.45 (1.2)", "90.45 (1.2)"),
    ("resnet18", "none"): ("89.41 (2.1)", "90.32 (1.4)"),
    ("resnet18", "c4"): ("91.37 (1.5)", "91.63 (1.4)"),
    ("resnet18", "d4"): ("91.89 (1.3)", "91.89 (1.3)"),
    ("vgg11", "none"): ("78.30 (11.9)", "77.12 (11.4)"),
    ("vgg11", "c4"): ("88.62 (4.6)", "88.75 (4.3)"),
    ("vgg11", "d4"): ("90.98 (2.2)", "90.98 (2.2)"),
    ("densenet121", "none"): ("86.79 (2.7)", "88.88 (1.5)"),
    ("densenet121", "c4"): ("91.50 (1.3)", "91.24 (1.7)"),
    ("densenet121", "d4"): ("90.06 (1.4)", "90.06 (0.8)"),
}
# The settings that all runs in one table share.
SETTINGS = ("dataset", "head", "image_size", "epochs", "train_images", "test_images", "batch_size", "learning_rate")
AUGMENTATIONS = ("none", "c4")
GROUPS = ("none", "c4", "d4")
# Other ways to make a classifier invariant, by name: functions of the plain model and the size of its images.
PEERS: dict[str, Callable[["Plain", int], nn.Module]] = {}


class Plain(nn.Module):
    """The base model alone, with the loss that Trainer expects.

    Args:
        backbone: maps images to logits or to feature maps.
        head: maps the output of ``backbone`` to logits.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module):
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.head(self.backbone(pixel_values))
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def build(arguments: argparse.Namespace, model: str, group: str) -> nn.Module:
    """A classifier before its training, plain or equi-tuned; torch's seed determines its new layers."""
    base, labels = BACKBONES[model], LABELS[arguments.dataset]
    classifier, size = base.load(arguments.weights), arguments.image_size or base.image_size
    settings: Any = {"num_labels": labels, "head": arguments.head, "image_size": size}
    if arguments.head == "equivariant":
        classifier = base.maps(classifier)
    if group in ("c4", "d4"):
        return EquiForImageClassification.from_base(classifier, group, **settings)  # type: ignore[arg-type]
    equi_tuned = EquiForImageClassification.from_base(classifier, "c4", **settings)
    head: nn.Module = nn.Identity()
    if arguments.head == "equivariant":
        channels, *shape = cast(list[int], equi_tuned.config.feature_shape)
        nothing = TrivialAction(CyclicGroup(1))  # the same layers without sharing
        head = EquivariantHead(nothing, tuple(shape), channels, labels)
    plain = Plain(equi_tuned.backbone, head)
    return PEERS[group](plain, size) if group in PEERS else plain


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    """The share of correct answers."""
    return {"accuracy": float((np.argmax(prediction.predictions, -1) == prediction.label_ids).mean())}


def execute(arguments: argparse.Namespace, run: dict[str, Any], train: Images, test: Images) -> dict[str, Any]:
    """Train and test one model; returns the run with its results."""
    start = time.perf_counter()
    set_seed(run["seed"])
    model = build(arguments, run["model"], run["group"])
    if arguments.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    trainer = Trainer(
        model,
        TrainingArguments(
            output_dir=tempfile.gettempdir(),
            num_train_epochs=arguments.epochs,
            per_device_train_batch_size=arguments.batch_size,
            per_device_eval_batch_size=arguments.eval_batch_size,
            learning_rate=arguments.learning_rate,
            lr_scheduler_type="constant",
            max_grad_norm=0,  # Trainer's default would clip nearly every step
            seed=run["seed"],
            save_strategy=SaveStrategy.NO,
            logging_strategy="epoch",
            report_to="none",
            disable_tqdm=True,  # the bar over the runs is enough
            remove_unused_columns=False,
            dataloader_pin_memory=torch.cuda.is_available(),
        ),
        train_dataset=train,
        eval_dataset=test,
        compute_metrics=accuracy,
        optimizer_cls_and_kwargs=(torch.optim.SGD, {"lr": arguments.learning_rate, "momentum": 0.9}),
    )
    if arguments.epochs > 0:
        trainer.train()
    trained = time.perf_counter()
    result = trainer.evaluate()
    return {
        **run,
        "accuracy": result["eval_accuracy"],
        "train_seconds": round(trained - start, 1),
        "test_seconds": round(time.perf_counter() - trained, 1),
    }


def settings_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that all runs in one table share."""
    return {name: getattr(arguments, name) for name in SETTINGS}


def wanted(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The requested runs; equi-tuned models with augmentation come last: turned images make no difference to them."""
    shared = settings_of(arguments)
    cells = [(group, augmentation) for group in arguments.groups for augmentation in arguments.augmentation]
    for late in (False, True):
        for seed in arguments.seeds:
            for group, augmentation in cells:
                if late == (group != "none" and augmentation != "none"):
                    for model in arguments.models:
                        run = {"model": model, "group": group, "augmentation": augmentation, "seed": seed}
                        yield {**shared, **run}


def read(file: Path) -> list[dict[str, Any]]:
    """The finished runs in a file; an incomplete last line from an interruption is removed."""
    written = file.read_text("utf-8") if file.exists() else ""
    whole = written[: written.rfind("\n") + 1]
    if whole != written:
        file.write_text(whole, "utf-8")
    return [json.loads(line) for line in whole.splitlines()]


def key(run: dict[str, Any]) -> tuple[Any, ...]:
    """The settings of a run without its results; two runs with the same key are the same."""
    return tuple(
        value for name, value in sorted(run.items()) if name not in ("accuracy", "train_seconds", "test_seconds")
    )


def tables(runs: list[dict[str, Any]]) -> str:
    """A Markdown table for each combination of settings: accuracies in %, mean (standard deviation) over the seeds."""
    lines: list[str] = []
    for settings in dict.fromkeys(tuple(run[name] for name in SETTINGS) for run in runs):
        of_table = [run for run in runs if tuple(run[name] for name in SETTINGS) == settings]
        rows = list(dict.fromkeys((run["model"], run["group"]) for run in of_table))
        papers = [PAPER.get(row, ("", "")) if settings[0] == "hymenoptera" else ("", "") for row in rows]
        heads = ["model", "group", "no aug.", "c4 aug.", "over none", "over none, c4 aug.", "seeds", "hours"]
        if any(paper != ("", "") for paper in papers):
            heads += ["paper, no aug.", "paper, c4 aug."]
        told = [
            f"{name.replace('_', ' ')} {value}"
            for name, value in zip(SETTINGS, settings, strict=True)
            if value is not None
        ]
        lines += [f"{', '.join(told[1:])}:", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        for (model, group), paper in zip(rows, papers, strict=True):
            of_row = [run for run in of_table if (run["model"], run["group"]) == (model, group)]
            cells = [percent([run["accuracy"] for run in of_row if run["augmentation"] == a]) for a in AUGMENTATIONS]
            cells += [gain(of_table, model, group, a) for a in AUGMENTATIONS]
            hours = sum(run["train_seconds"] + run["test_seconds"] for run in of_row) / 3600
            cells = [model, group, *cells, str(len({run["seed"] for run in of_row})), f"{hours:.2f}", *paper]
            lines.append(f"| {' | '.join(cells[: len(heads)])} |")
        lines.append("")
    return "\n".join(lines)


def gain(runs: list[dict[str, Any]], model: str, group: str, augmentation: str) -> str:
    """The gain in accuracy of a group without augmentation over the plain model, with or without it, by seed."""

    def accuracies(group: str, augmentation: str) -> dict[int, float]:
        wanted = (model, group, augmentation)
        return {
            run["seed"]: run["accuracy"] for run in runs if (run["model"], run["group"], run["augmentation"]) == wanted
        }

    ours, plain = accuracies(group, "none"), accuracies("none", augmentation)
    return "" if group == "none" else percent([ours[seed] - plain[seed] for seed in ours if seed in plain])


def percent(shares: list[float]) -> str:
    """Mean and sample standard deviation of shares, in %; an empty text for no shares."""
    if not shares:
        return ""
    spread = f" ({100 * statistics.stdev(shares):.1f})" if len(shares) > 1 else ""
    return f"{100 * statistics.mean(shares):.1f}{spread}"


def main() -> None:
    """Run the requested runs and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=LABELS)
    parser.add_argument("--data", type=Path, help="the folder of the data set")
    parser.add_argument("--weights", type=Path, help="the folder with resnet20.safetensors and resnet56.safetensors")
    parser.add_argument(
        "--models", nargs="+", choices=BACKBONES, default=["alexnet", "resnet18", "vgg11", "densenet121"]
    )
    parser.add_argument("--groups", nargs="+", choices=(*GROUPS, *PEERS), default=[*GROUPS, *PEERS])
    parser.add_argument("--augmentation", nargs="+", choices=AUGMENTATIONS, default=["none", "c4"])
    parser.add_argument("--head", choices=("equivariant", "own"), default="equivariant")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--epochs", type=int, default=10, help="0 tests the models as they are")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--eval-batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--image-size", type=int, help="in pixels; by default that of the base model")
    parser.add_argument("--train-images", type=int, help="a random subset, the same for all seeds")
    parser.add_argument("--test-images", type=int, help="likewise")
    parser.add_argument("--channels-last", action="store_true", help="a memory format in which some models are faster")
    parser.add_argument("--output", type=Path, default=HERE / "results")
    parser.add_argument("--table", action="store_true", help="train nothing")
    arguments = parser.parse_args()
    file = arguments.output / f"{arguments.dataset}.jsonl"
    if not arguments.table:
        arguments.output.mkdir(parents=True, exist_ok=True)
        done = {key(run) for run in read(file)}
        runs = [run for run in wanted(arguments) if key(run) not in done]
        if runs:
            execute_all(arguments, runs, file)
    text = tables(read(file))
    file.with_suffix(".md").write_text(text, "utf-8")
    print(text)


def execute_all(arguments: argparse.Namespace, runs: list[dict[str, Any]], file: Path) -> None:
    """Execute runs one after the other, and write a line to the file when each is finished."""
    parts = load_rows(arguments.dataset, arguments.data)
    sizes = (arguments.train_images, arguments.test_images)
    train_rows, test_rows = (
        rows if size is None else rows.shuffle(seed=0).select(range(size))
        for rows, size in zip(parts, sizes, strict=True)
    )
    images: dict[tuple[str, str], Images] = {}
    for run in tqdm(runs, desc="runs"):
        base = BACKBONES[run["model"]]
        size = arguments.image_size or base.image_size
        for part, rows in (("train", train_rows), ("test", test_rows)):
            if (run["model"], part) not in images:
                images[run["model"], part] = Images(rows, size, base, None)
        train = images[run["model"], "train"].turned("random" if run["augmentation"] == "c4" else None)
        test = images[run["model"], "test"].turned(run["seed"])
        result = execute(arguments, run, train, test)
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(result) + "\n")
        tqdm.write(json.dumps(result))


if __name__ == "__main__":
    main()
