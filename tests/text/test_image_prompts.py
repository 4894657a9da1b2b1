"""Prompts with pictures: where they stand in the text, with and without a chat template, and where they come from."""

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from picture_words import IMAGE_TOKEN, drawn_picture, picture_processor
from PIL import Image
from word_models import word_tokenizer

from equilm import EquiLMError
from equilm.text import image_inputs, open_image

PICTURES = [drawn_picture(color) for color in ("red", "green", "blue")]
TOKENS = IMAGE_TOKEN * 4  # a picture has four patches


def texts(inputs: Any, processor: Any) -> list[str]:
    return [str(text).replace("<pad>", "") for text in processor.batch_decode(inputs["input_ids"])]


def pixels(processor: Any, pictures: list[Any]) -> torch.Tensor:
    found: torch.Tensor = processor.image_processor(pictures, return_tensors="pt")["pixel_values"]
    return found


def test_pictures_stand_before_the_words_of_a_chat() -> None:
    processor = picture_processor()
    inputs = image_inputs(processor, ["he", "Who is he"], PICTURES[:2])
    assert texts(inputs, processor) == [f"user:{TOKENS * 2} he The", f"user:{TOKENS * 2} Who is he The"]
    assert inputs["attention_mask"][0, 0] == 0 and inputs["attention_mask"][:, -1].all()  # padded on the left
    torch.testing.assert_close(inputs["pixel_values"], pixels(processor, PICTURES[:2] * 2))


def test_pictures_stand_where_the_prompt_names_them() -> None:
    processor = picture_processor()
    prompt = f"he{IMAGE_TOKEN}or{IMAGE_TOKEN}"
    inputs = image_inputs(processor, [prompt], PICTURES[1:])
    assert texts(inputs, processor) == [f"user: he{TOKENS} or{TOKENS} The"]
    torch.testing.assert_close(inputs["pixel_values"], pixels(processor, PICTURES[1:]))


def test_without_a_chat_template_the_text_goes_on() -> None:
    processor = picture_processor(template=False)
    inputs = image_inputs(processor, ["he is", f"she{IMAGE_TOKEN} is"], PICTURES[:1])
    assert texts(inputs, processor) == [f"{TOKENS}he is", f"she{TOKENS} is"]


def test_answers_that_are_begun() -> None:
    prompts, answers = ["Who is he", "Who"], ["he is", "she"]
    processor = picture_processor()
    inputs = image_inputs(processor, prompts, PICTURES[:1], answers)
    assert texts(inputs, processor) == [f"user:{TOKENS} Who is heassistant: he is", f"user:{TOKENS} Whoassistant: she"]
    processor = picture_processor(template=False)
    inputs = image_inputs(processor, prompts, PICTURES[:1], answers)
    assert texts(inputs, processor) == [f"{TOKENS}Who is he he is", f"{TOKENS}Who she"]
    with pytest.raises(EquiLMError, match="Expected an answer for each of 2 prompts, got 1"):
        image_inputs(processor, prompts, PICTURES[:1], answers[:1])


def test_what_does_not_fit_is_refused() -> None:
    processor = picture_processor()
    with pytest.raises(EquiLMError, match="names 1 images by <image>, but the number of images given is 2"):
        image_inputs(processor, [f"he {IMAGE_TOKEN}"], PICTURES[:2])
    with pytest.raises(EquiLMError, match="No image is given"):
        image_inputs(processor, ["he"], [])
    with pytest.raises(EquiLMError, match="which knows no pictures"):
        image_inputs(word_tokenizer(), ["he"], PICTURES[:1])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_pictures_are_opened_from_files_and_addresses(tmp_path: Path, server: str) -> None:
    picture = drawn_picture("teal", 24)
    picture.convert("RGBA").save(tmp_path / "teal.png")
    for source in (tmp_path / "teal.png", str(tmp_path / "teal.png"), f"{server}/teal.png"):
        opened = open_image(source)
        assert opened.mode == "RGB" and np.array_equal(np.asarray(opened), np.asarray(picture))
    with pytest.raises(EquiLMError, match=r"The address .*nothing\.png' is no picture"):
        open_image(f"{server}/nothing.png")
    with pytest.raises(EquiLMError, match="There is no file"):
        open_image(tmp_path / "nothing.png")


def test_pictures_are_turned_upright(tmp_path: Path) -> None:
    picture = Image.new("RGB", (8, 16), "red")
    exif = picture.getexif()
    exif[0x0112] = 6  # a camera held on its side
    picture.save(tmp_path / "turned.jpg", exif=exif)
    assert open_image(tmp_path / "turned.jpg").size == (16, 8)


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn_picture("red", 64).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(EquiLMError, match="is no picture that can be read"):
        open_image(tmp_path / "large.png")
