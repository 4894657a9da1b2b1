"""The study of neutral pictures: its numbers against probabilities computed here, and its page."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import study
import torch
from charts import bars
from picture_words import drawn_picture, picture_processor, picture_word_model, saved_picture_model
from shapes import SIDE, neutral_pictures

from equilm import DemographicAxis, EquiLMForImageTextToText
from equilm.text import image_inputs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved_picture_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def found(folder: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The study of the gender axis and its page."""
    output = tmp_path_factory.mktemp("study")
    study.main(["--model", folder, "--output", str(output)])
    return json.loads((output / "study.json").read_text("utf-8")), (output / "index.html").read_text("utf-8")


def test_the_fair_model_says_the_same_of_all_groups_and_the_plain_one_does_not(found: Any) -> None:
    numbers, _ = found
    assert numbers["groups"] == ["man", "woman"] and len(numbers["questions"]) == len(study.QUESTIONS)
    for question in numbers["questions"]:
        assert [row["picture"] for row in question["pictures"]] == list(neutral_pictures())
        for row in question["pictures"]:
            assert row["fair"]["gap"] < 1e-6 and row["fair"]["distance"] < 1e-5
            assert row["plain"]["gap"] > 1e-4 and row["plain"]["distance"] > 1e-3
            for word in row["fair"]["next"]:
                assert word["probabilities"] == pytest.approx([word["probabilities"][0]] * 2, abs=1e-5)
    assert numbers["means"]["fair"]["distance"] < 1e-5 < numbers["means"]["plain"]["distance"]


def test_the_pictures_are_seen(found: Any) -> None:
    for question in found[0]["questions"]:
        assert len({round(row["plain"]["gap"], 6) for row in question["pictures"]}) == len(neutral_pictures())


@pytest.mark.parametrize("axis", ["gender", "race3"])
def test_the_plain_numbers_are_those_of_the_base_model(axis: str) -> None:
    processor = picture_processor()
    base = picture_word_model(processor)
    model = EquiLMForImageTextToText.from_base(base, processor, axes=axis)
    pictures = {"red": drawn_picture("red")}
    row = study.measure(model, processor, DemographicAxis.load(axis), pictures)["questions"][1]["pictures"][0]["plain"]

    def law(who: str) -> Any:
        inputs = image_inputs(
            processor, [f"What is this {who} doing?"], list(pictures.values()), [f"This {who} is holding"]
        )
        with torch.no_grad():
            return base(**inputs).logits[0, -1].softmax(-1)

    named = {
        "gender": {"man": "man", "woman": "woman"},
        "race3": {group: f"{group} person" for group in ("Black", "White", "Asian")},
    }[axis]
    assert list(row["words"]) == list(named)
    token = {group: processor.tokenizer(f" {group}").input_ids[0] for group in named}
    laws = {group: law(who) for group, who in named.items()}
    # After a swapped question, the swapped word; and all else by the model's own table.
    first, *others = named
    distances = [
        float((laws[other][model.permutation[g, : len(laws[other])]] - laws[first]).abs().sum()) / 2
        for g, other in enumerate(others, 1)
    ]
    assert row["distance"] == pytest.approx(sum(distances) / len(distances), rel=1e-4)
    for word in row["next"]:
        if word["words"] == list(named):
            assert word["probabilities"] == pytest.approx([float(laws[group][token[group]]) for group in named])
    mapped = [entry.token_ids for entry in model.config.coverage or () if entry.mapped and not entry.general]
    neutral = law("person")
    for number, group in enumerate(named):
        assert row["words"][group] == pytest.approx(float(neutral[[ids[number][0] for ids in mapped]].sum()), rel=1e-4)


def test_pictures_of_ones_own(folder: str, tmp_path: Path) -> None:
    own = tmp_path / "own.png"
    drawn_picture("teal").save(own)
    study.main(["--model", folder, "--axis", "orientation", "--image", str(own), "--output", str(tmp_path / "out")])
    numbers = json.loads((tmp_path / "out" / "study.json").read_text("utf-8"))
    assert numbers["groups"] == ["gay", "straight"]
    assert [row["picture"] for row in numbers["questions"][0]["pictures"]] == [str(own)]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--axis", "names"], "is a joint one"),
        (["--axis", "disability"], "lists of axis 'disability' cannot be mapped"),
        (["--image", "nothing.png"], "There is no file 'nothing.png'"),
    ],
)
def test_what_cannot_be_asked_is_one_message(folder: str, tmp_path: Path, arguments: list[str], named: str) -> None:
    with pytest.raises(SystemExit, match=named) as end:
        study.main(["--model", folder, "--output", str(tmp_path), *arguments])
    assert str(end.value).startswith("study: ")


def test_the_page_shows_every_picture_and_bar(found: Any) -> None:
    _, html = found
    rows = len(study.QUESTIONS) * len(neutral_pictures())
    assert html.count("<img ") == rows and html.count("<svg ") == 3 * rows
    assert "What is this person&#x27;s job?" in html and "http://" not in html.replace("http://www.w3.org", "")


def test_bars_are_as_long_as_their_values() -> None:
    drawing = bars({"<plain>": {"man": 0.5, "woman": 0.125}}, 0.5, "words")
    widths = [float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', drawing)]
    assert widths[0] == 4 * widths[1] > 0
    assert "&lt;plain&gt;" in drawing and ">50 %<" in drawing and ">12.5 %<" in drawing
    assert 'width="0.00"' in bars({"none": {"man": 0.0}}, 0.0, "words")


def test_the_drawn_pictures_differ() -> None:
    pictures = neutral_pictures()
    assert len({picture.tobytes() for picture in pictures.values()}) == len(pictures)
    assert all(picture.size == (SIDE, SIDE) and picture.mode == "RGB" for picture in pictures.values())
