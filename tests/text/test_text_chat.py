"""Chats as clients hand them over: dicts, objects of the OpenAI package, and pictures among the words."""

import math
import re
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from picture_words import drawn_picture, picture_processor, picture_word_model
from PIL import Image
from transformers import pipeline

from equilm import EquiLMError, TextSymmetrizer
from equilm.text.chat import map_texts, prompt_texts, text_before

GENDER = "gender"
QUESTION = {"role": "user", "content": "Who is he?"}


def shout(prompt: Any) -> Any:
    return map_texts(prompt, str.upper)


def completion(**message: Any) -> Any:
    """An answer of the chat API, as the client reads it."""
    chat = pytest.importorskip("openai.types.chat", reason="needs openai")
    body = {"role": "assistant", "content": "He is a king.", "refusal": None, **message}
    choice = {"index": 0, "finish_reason": "stop", "logprobs": None, "message": body}
    return chat.ChatCompletion.model_validate(
        {"id": "1", "created": 0, "model": "m", "object": "chat.completion", "choices": [choice]}
    )


def test_an_answer_of_the_client_goes_back_into_the_chat() -> None:
    message = completion().choices[0].message
    swapped = shout([QUESTION, message])
    assert swapped == [
        {"role": "user", "content": "WHO IS HE?"},
        {"role": "assistant", "content": "HE IS A KING.", "refusal": None},
    ]
    assert message.content == "He is a king."  # what was given is not changed
    assert prompt_texts([QUESTION, message]) == ("Who is he?", "He is a king.")


def test_tool_calls_and_refusals_of_the_client() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "he", "arguments": "{}"}}
    calling = completion(content=None, tool_calls=[call]).choices[0].message
    assert shout([calling]) == [{"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]}]
    refusing = completion(content=None, refusal="not his").choices[0].message
    assert shout([refusing]) == [{"role": "assistant", "content": None, "refusal": "NOT HIS"}]


def test_messages_of_the_responses_api() -> None:
    responses = pytest.importorskip("openai.types.responses", reason="needs openai")
    parts = [
        {"type": "output_text", "text": "he", "annotations": []},
        {"type": "refusal", "refusal": "she"},
    ]
    message = responses.ResponseOutputMessage.model_validate(
        {"id": "m", "role": "assistant", "status": "completed", "type": "message", "content": parts}
    )
    asked = {"role": "user", "content": [{"type": "input_text", "text": "he"}, {"type": "input_image", "detail": "he"}]}
    assert prompt_texts([asked, message]) == ("he", "he", "she")
    swapped = shout([asked, message])
    assert swapped[0]["content"] == [{"type": "input_text", "text": "HE"}, {"type": "input_image", "detail": "he"}]
    assert [part.get("text", part.get("refusal")) for part in swapped[1]["content"]] == ["HE", "SHE"]


def test_parts_that_are_objects_in_a_message_that_is_a_dict() -> None:
    responses = pytest.importorskip("openai.types.responses", reason="needs openai")
    part = responses.ResponseOutputText(annotations=[], text="he", type="output_text")
    assert prompt_texts([{"role": "assistant", "content": [part]}]) == ("he",)


def test_a_symmetrizer_takes_the_clients_objects() -> None:
    sent: list[Any] = []

    def generate(prompts: list[Any]) -> list[str]:
        sent.extend(prompts)
        return ["She nods." if "queen" in chat[1]["content"] else "He nods." for chat in prompts]

    message = completion().choices[0].message
    texts, elements = TextSymmetrizer(GENDER, seed=0).wrap(generate)([[QUESTION, message]] * 8, return_elements=True)
    assert set(elements) == {0, 1} and set(texts) == {"He nods."}
    assert [chat[1]["content"] for chat in sent] == [["He is a king.", "She is a queen."][g] for g in elements]


@pytest.mark.parametrize("message", ["He?", 3, None, ["He?"], dict])
def test_what_is_no_message_is_refused(message: Any) -> None:
    with pytest.raises(EquiLMError, match="Expected a message of a chat as a dict"):
        prompt_texts([QUESTION, message])


def test_what_is_no_part_is_refused() -> None:
    with pytest.raises(EquiLMError, match="Expected a part of a message"):
        prompt_texts([{"role": "user", "content": ["He?"]}])


# --- Pictures --------------------------------------------------------------------------------------------------------

PICTURE = Image.new("RGB", (8, 8), "red")
PICTURES: dict[str, dict[str, Any]] = {
    "an object": {"type": "image", "image": PICTURE},
    "an array": {"type": "image", "image": np.zeros((8, 8, 3), np.uint8)},
    "a url": {"type": "image", "url": "http://x/man.png"},
    "a path": {"type": "image", "path": "/home/man/he.png"},
    "chat completions": {"type": "image_url", "image_url": {"url": "http://x/man.png", "detail": "high"}},
    "responses": {"type": "input_image", "image_url": "data:image/png;base64,he", "detail": "auto"},
    "bytes": {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "he"}},
    "a size": {"type": "image", "image": PICTURE, "min_pixels": 4, "max_pixels": 64},
    "frames": {"type": "video", "video": [PICTURE, PICTURE], "fps": 2.0},
    "a video's url": {"type": "video_url", "video_url": {"url": "http://x/he.mp4"}},
}


def asked(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


@pytest.mark.parametrize("kind", PICTURES)
def test_the_picture_stays_and_the_words_swap(kind: str) -> None:
    picture = PICTURES[kind]
    chat = asked({"type": "text", "text": "He sees:"}, picture, {"type": "text", "text": "What is his job?"})
    sent: list[Any] = []

    def generate(chats: list[Any]) -> list[str]:
        sent.extend(chats)
        return ["A king."] * len(chats)

    texts, elements = TextSymmetrizer(GENDER, seed=0).wrap(generate)([chat] * 12, return_elements=True)
    assert set(elements) == {0, 1} and texts == ["A queen." if g else "A king." for g in elements]
    for g, swapped in zip(elements, sent, strict=True):
        first, middle, last = swapped[0]["content"]
        assert (first["text"], last["text"]) == (
            ("She sees:", "What is her job?") if g else ("He sees:", "What is his job?")
        )
        assert middle.keys() == picture.keys() and all(middle[name] is picture[name] for name in picture)


REFUSED: dict[str, tuple[Any, str]] = {
    "speech": ({"type": "input_audio", "input_audio": {"data": "x", "format": "wav"}}, "'input_audio'"),
    "sound": ({"type": "audio", "url": "http://x/he.wav"}, "'audio'"),
    "a file": ({"type": "file", "file": {"filename": "he.pdf", "file_data": "x"}}, "'file'"),
    "a result": ({"type": "tool_result", "content": "he"}, "'tool_result'"),
    "no type": ({"text": "he"}, "of the type None"),
    "no text": ({"type": "text", "content": "he"}, "the text None"),
    "a caption": ({"type": "image", "url": "x", "caption": "a man"}, "'caption'"),
    "a caption within": ({"type": "image_url", "image_url": {"url": "x", "alt": "a man"}}, "'alt'"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_parts_whose_words_would_not_be_swapped_are_refused(kind: str) -> None:
    part, named = REFUSED[kind]
    with pytest.raises(EquiLMError, match=re.escape(named)):
        TextSymmetrizer(GENDER).wrap(lambda chats: ["" for _ in chats])([asked({"type": "text", "text": "He?"}, part)])


def test_a_content_that_is_one_part_is_refused() -> None:
    with pytest.raises(EquiLMError, match="expected a text or a list of parts"):
        prompt_texts([{"role": "user", "content": {"type": "text", "text": "he"}}])


def test_after_a_picture_a_new_text_begins() -> None:
    begun = {"type": "text", "text": "The wo"}
    assert text_before(asked(PICTURES["a url"], begun), True) == "The wo"
    assert text_before(asked(begun, PICTURES["a url"]), True) == ""


def law(chat: Any, shade: int) -> dict[str, float]:
    """A generator whose answers depend on the words and on the picture: their probabilities."""
    bias = len("".join(prompt_texts(chat))) / 100 + shade / 1000
    return {"He is kind.": 0.2 + bias, "She is kind.": 0.5 - bias / 2, "They are kind.": 0.3 - bias / 2}


@pytest.mark.parametrize("axes", ["gender", "race3"])
def test_equation_4_holds_for_one_picture_and_the_picture_counts(axes: str) -> None:
    words = {"gender": "Is the man here his friend?", "race3": "Is the Asian person here a White person's friend?"}
    fair = TextSymmetrizer(axes)
    chats = [
        asked({"type": "image", "image": np.full((40, 40, 3), shade, np.uint8)}, {"type": "text", "text": words[axes]})
        for shade in (10, 90)
    ]

    def score(prompts: list[Any], answers: list[str]) -> list[float]:
        pictures = [chat[0]["content"][0]["image"] for chat in prompts]
        laws = [law(chat, int(picture[0, 0, 0])) for chat, picture in zip(prompts, pictures, strict=True)]
        return [math.log(law[answer]) for law, answer in zip(laws, answers, strict=True)]

    answers = list(law(chats[0], 0))
    log_q = [fair.log_prob(score, [chat] * 3, answers) for chat in chats]
    assert max(abs(one - other) for one, other in zip(*log_q, strict=True)) > 0.01
    for chat, expected in zip(chats, log_q, strict=True):
        assert math.fsum(map(math.exp, expected)) == pytest.approx(1)
        for g in fair.action.group.elements:
            moved = map_texts(chat, partial(fair.action.act, g=g))
            images = [fair.action.act(answer, g) for answer in answers]
            assert fair.log_prob(score, [moved] * 3, images) == pytest.approx(expected, abs=1e-12)


def test_chats_with_other_pictures_are_scored_apart() -> None:
    """Large arrays are printed alike, and PIL's pictures by their address."""
    arrays = [np.zeros((64, 64, 3), np.uint8) for _ in range(2)]
    arrays[1][32, 32] = 255
    assert repr(arrays[0]) == repr(arrays[1])
    for pictures in (arrays, list(map(torch.tensor, arrays)), list(map(Image.fromarray, arrays))):
        seen: list[Any] = []

        def score(chats: list[Any], seen: list[Any] = seen) -> list[float]:
            seen.extend(chats)
            return [float(np.asarray(chat[0]["content"][0]["image"]).sum()) for chat in chats]

        chats = [asked({"type": "image", "image": one}, {"type": "text", "text": "Is he kind?"}) for one in pictures]
        assert TextSymmetrizer(GENDER).invariant(score)([*chats, chats[0]]) == [0.0, 765.0, 0.0]
        assert len(seen) == 4


def test_a_pipeline_of_transformers_behind_a_symmetrizer() -> None:
    processor = picture_processor()
    asking: Any = pipeline("image-text-to-text", model=picture_word_model(processor), processor=processor)

    def answer(chats: list[Any]) -> list[str]:
        rows = asking(text=chats, max_new_tokens=5, return_full_text=False)
        return [row["generated_text"] for (row,) in rows]

    fair, plain = TextSymmetrizer(GENDER, pronouns=None), {}
    for color in ("red", "navy"):
        picture = {"type": "image", "image": drawn_picture(color)}
        chats = [asked(picture, {"type": "text", "text": f"Who is the {word}"}) for word in ("man", "woman")]
        plain[color] = answer(chats)
        assert plain[color][1] != fair.action.act(plain[color][0], 1)
        for seed in range(3):
            man, woman = (fair.wrap(answer)([chat], draw_seed=seed)[0] for chat in chats)
            assert woman == fair.action.act(man, 1)
            assert man in (plain[color][0], fair.action.act(plain[color][1], 1))
    assert plain["red"] != plain["navy"]
