"""`equilm generate --image`: answers about pictures, from files and addresses, and what can be wrong with them."""

import json
from pathlib import Path
from typing import Any

import pytest
from picture_words import drawn_picture, saved_picture_model
from transformers import AutoProcessor
from word_models import saved_word_model

from equilm import EquiLMForImageTextToText
from equilm.cli.main import main
from equilm.text import TextAction


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved_picture_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    paths = [tmp_path_factory.mktemp("pictures") / f"{color}.png" for color in ("red", "navy")]
    for path in paths:
        drawn_picture(path.stem).save(path)
    return [str(path) for path in paths]


def answers(capsys: pytest.CaptureFixture[str], folder: str, *arguments: str) -> list[dict[str, Any]]:
    assert main(["generate", "--model", folder, "--jsonl", "--max-new-tokens", "6", *arguments]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_answers_are_swaps_and_the_picture_counts(
    capsys: pytest.CaptureFixture[str], folder: str, pictures: list[str]
) -> None:
    prompts = ("Who is the man", "Who is the woman")
    found = []
    for picture in pictures:
        rows = answers(capsys, folder, *prompts, "--image", picture, "--compare", "--sample", "--seed", "5")
        assert [row["prompt"] for row in rows] == list(prompts) and rows[0]["images"] == [picture]
        assert rows[1]["text"] == TextAction("gender", pronouns=None).act(rows[0]["text"], 1)
        assert rows[1]["plain"] != TextAction("gender", pronouns=None).act(rows[0]["plain"], 1)
        found.append(rows[0])
    assert found[0]["text"] != found[1]["text"] and found[0]["plain"] != found[1]["plain"]
    again = answers(capsys, folder, prompts[0], "--image", pictures[0], "--plain", "--sample", "--seed", "5")
    assert again[0]["text"] == found[0]["plain"]
    batched = answers(capsys, folder, *prompts, "--image", pictures[0], "--batch-size", "2", "--num-beams", "2")
    alone = answers(capsys, folder, *prompts, "--image", pictures[0], "--num-beams", "2")
    assert batched == alone


def test_a_model_that_was_saved_wrapped_is_used_as_it_is(
    capsys: pytest.CaptureFixture[str], folder: str, pictures: list[str], tmp_path: Path
) -> None:
    processor: Any = AutoProcessor.from_pretrained(folder)
    EquiLMForImageTextToText.from_base(folder, processor).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    asked = ("Who is the man", "--image", pictures[0])
    assert answers(capsys, str(tmp_path), *asked) == answers(capsys, folder, *asked)
    assert main(["generate", *asked, "--model", str(tmp_path), "--axis", "race"]) == 2
    assert "is wrapped already, with its own axes" in capsys.readouterr().err


def test_only_the_answer_is_written(capsys: pytest.CaptureFixture[str], folder: str, pictures: list[str]) -> None:
    arguments = ["generate", "Who is the man", "--model", folder, "--max-new-tokens", "3", "--report"]
    assert main([*arguments, "--image", pictures[0], "--compare"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("EquiLM is on") and " fair | " in out and "plain | " in out
    assert "Who is the man" not in out and "<image>" not in out


def test_several_images_with_and_without_their_places(
    capsys: pytest.CaptureFixture[str], folder: str, pictures: list[str], tmp_path: Path
) -> None:
    both = ["--image", pictures[0], "--image", pictures[1]]
    before, placed, named = answers(
        capsys, folder, "Who is the man", "<image><image>Who is the man", "Who is <image> the <image> man", *both
    )
    assert before["text"] == placed["text"] != named["text"]
    without = saved_picture_model(tmp_path, template=False)
    (untemplated,) = answers(capsys, without, "Who is the man", *both)
    assert untemplated["text"] != before["text"]


def errors(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    try:
        code = main(["generate", "Who is the man", *arguments])
    except SystemExit as end:
        code = end.code  # type: ignore[assignment]
    lines = capsys.readouterr().err.splitlines()
    assert code == 2 and not any("Traceback" in line for line in lines), lines
    return [line for line in lines if line.startswith("equilm")]


def test_what_can_be_wrong_with_pictures(
    capsys: pytest.CaptureFixture[str], folder: str, pictures: list[str], tmp_path: Path
) -> None:
    torn, words, text_model = tmp_path / "torn.png", tmp_path / "words.png", str(tmp_path / "text")
    torn.write_bytes(Path(pictures[0]).read_bytes()[:60])
    words.write_text("He is a man.")
    saved_word_model(Path(text_model))
    for arguments, named in (
        (("--image", "nowhere.png", "--model", folder), "there is no file 'nowhere.png'"),
        (("--image", str(tmp_path), "--model", folder), "there is no file"),
        (("--image", str(words), "--model", folder), "words.png' is no picture that can be read"),
        (("--image", str(torn), "--model", folder), "torn.png' is no picture that can be read"),
        (("--image", "http://127.0.0.1:1/he.png", "--model", folder), "The address 'http://127.0.0.1:1/he.png'"),
        (("--image", pictures[0], "--model", text_model), "is one of text alone"),
        (("--image", pictures[0]), "--image needs a model that reads pictures"),
        (("He <image> or <image>", "--image", pictures[0], "--model", folder), "names 2 images by <image>"),
    ):
        (line,) = errors(capsys, *arguments)
        assert named in line, line
