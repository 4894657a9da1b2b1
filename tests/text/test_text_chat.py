"""Chats as clients hand them over: dicts, and the objects of the OpenAI package."""

from typing import Any

import pytest

from equilm import EquiLMError, TextSymmetrizer
from equilm.text.chat import map_texts, prompt_texts

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
