"""The script of the image experiments: it trains, tests, goes on where it stopped, and prints its tables."""

import argparse
import io
import json
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
import run
import torch
from image_backbones import BACKBONES, CifarResNet
from image_data import Images, load_rows, prepare
from PIL import Image
from safetensors.torch import save_file

DATA = Path(__file__).parents[3] / "shared" / "data"


def picture(seed: int, width: int = 32, height: int = 32) -> Image.Image:
    pixels = torch.randint(256, (height, width, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return Image.fromarray(pixels.numpy())


def png(image: Image.Image) -> dict[str, Any]:
    file = io.BytesIO()
    image.save(file, "png")
    return {"bytes": file.getvalue(), "path": None}


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    """A folder with a few images and a random ResNet-20."""
    features = datasets.Features({"img": datasets.Image(), "label": datasets.Value("int64")})
    for part, count in (("train", 6), ("test", 5)):
        rows = {"img": [png(picture(seed)) for seed in range(count)], "label": list(range(count))}
        datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / f"{part}.parquet")
    save_file(CifarResNet(3).state_dict(), tmp_path / "resnet20.safetensors")
    return tmp_path


def call(monkeypatch: pytest.MonkeyPatch, folder: Path, *options: str) -> list[dict[str, Any]]:
    """Run the script; returns what stands in its file."""
    given = ["--data", str(folder), "--weights", str(folder), "--output", str(folder / "results")]
    monkeypatch.setattr(sys, "argv", ["run.py", "cifar10", *given, "--models", "resnet20", "--epochs", "1", *options])
    run.main()
    lines = (folder / "results" / "cifar10.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("head", ["own", "equivariant"])
def test_it_trains_tests_and_goes_on(
    head: str, cifar: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--head", head, "--seeds", "0", "--train-images", "4")
    runs = call(monkeypatch, cifar, *options, "--groups", "none", "c4")
    assert [(row["group"], row["augmentation"]) for row in runs] == [
        ("none", "none"),
        ("none", "c4"),
        ("c4", "none"),
        ("c4", "c4"),
    ]
    assert all(0 <= row["accuracy"] <= 1 for row in runs)
    assert "| resnet20 | c4 |" in capsys.readouterr().out

    with (cifar / "results" / "cifar10.jsonl").open("a", encoding="utf-8") as lines:
        lines.write('{"dataset": "cifa')  # interrupted
    monkeypatch.setattr(run, "execute", lambda *_: pytest.fail("a finished run was repeated"))
    assert call(monkeypatch, cifar, *options, "--groups", "none", "c4") == runs


def test_tables_have_mean_and_standard_deviation() -> None:
    shared = dict.fromkeys(["head", "image_size", "epochs", "train_images", "test_images", "batch_size"], 1)
    seconds = {"train_seconds": 1800.0, "test_seconds": 1800.0}
    cells = [("c4", "none", 0, 0.5), ("c4", "none", 1, 0.7), ("c4", "c4", 0, 0.25)]
    cells += [("none", "none", 0, 0.4), ("none", "none", 1, 0.4), ("none", "c4", 1, 0.5)]
    rows = [
        {"dataset": "hymenoptera", **shared, "learning_rate": 0.1, "model": "alexnet", "group": group, **seconds}
        | {"augmentation": augmentation, "seed": seed, "accuracy": accuracy}
        for group, augmentation, seed, accuracy in cells
    ]
    assert run.tables(rows).splitlines()[-2:] == [
        "| alexnet | c4 | 60.0 (14.1) | 25.0 | 20.0 (14.1) | 20.0 | 2 | 3.00 | 93.07 (1.8) | 93.07 (1.8) |",
        "| alexnet | none | 40.0 (0.0) | 50.0 |  |  | 2 | 3.00 | 88.88 (4.5) | 91.11 (1.3) |",
    ]


def test_images_are_prepared_and_turned() -> None:
    assert prepare(picture(0, 100, 80), 40).shape == (3, 40, 40)
    assert torch.equal(prepare(picture(0), 64), prepare(picture(0), 32))  # small ones are enlarged later
    rows = {"image": [picture(seed) for seed in range(8)], "label": list(range(8))}
    upright = Images(rows, 32, BACKBONES["resnet20"])
    turned, again, other = (upright.turned(seed) for seed in (0, 0, 1))
    assert torch.equal(turned[3]["pixel_values"], again[3]["pixel_values"])
    assert turned.turns != other.turns
    assert isinstance(turned.turns, list)
    for index, turn in enumerate(turned.turns):
        expected = torch.rot90(upright[index]["pixel_values"], turn, (-2, -1))
        assert torch.equal(turned[index]["pixel_values"], expected)
    drawn = {upright.turned("random")[0]["pixel_values"].sum(0)[0, 0].item() for _ in range(40)}
    assert len(drawn) == 4


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "cifar10").exists(), reason="needs CIFAR-10 and the pretrained ResNet-20")
@torch.inference_mode()
def test_zero_shot_equi_tuning_helps_on_turned_images() -> None:
    arguments = argparse.Namespace(dataset="cifar10", weights=DATA / "cifar-resnet", image_size=None, head="own")
    _, rows = load_rows("cifar10", DATA / "cifar10")
    test = Images(rows.select(range(200)), 32, BACKBONES["resnet20"], turns=0)
    batch = torch.stack([row["pixel_values"] for row in test])  # type: ignore[attr-defined]
    labels = torch.tensor(test.labels)
    found = {}
    for group in ("none", "c4"):
        output = run.build(arguments, "resnet20", group).eval()(batch)
        found[group] = (output["logits"].argmax(-1) == labels).float().mean()
    assert found["c4"] > found["none"] + 0.05
