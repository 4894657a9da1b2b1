"""Prompts as texts: a prompt is a text or a list of chat messages, and the group acts on every text in it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from ..errors import EquiLMError


@runtime_checkable
class PydanticModel(Protocol):
    """What the clients of OpenAI and others answer with: ``response.choices[0].message``, and its parts."""

    def model_dump(self, *, mode: str = ..., exclude_unset: bool = ...) -> dict[str, Any]:
        """Its fields."""


Message = Mapping[str, Any] | PydanticModel
Prompt = str | Sequence[Message]

# The types of parts that are text, in chat completions and in responses.
_TEXT_PARTS = ("text", "input_text", "output_text")
# The types of parts that are pictures, for transformers' processors, the OpenAI protocol, and vLLM.
PICTURE_PARTS = ("image", "image_url", "input_image", "image_pil", "image_embeds", "video", "video_url", "input_video")
# What in such a part says which picture it is and how it is read. No model reads these as text.
_OF_PICTURES = {
    *("type", *PICTURE_PARTS, "url", "path", "base64", "data", "source", "file_id", "uuid", "image_grid_thw"),
    *("detail", "format", "media_type", "mime_type", "cache_control"),
}


def map_texts(prompt: Prompt, change: Callable[[str], str]) -> Any:
    """A prompt with each of its texts changed. Everything else stays: roles, pictures, names, tool calls.

    The texts of a chat message are its ``content``, or the ``text`` of each part of it whose ``type`` is "text",
    "input_text" or "output_text"; and, of a message or a part, its ``refusal``. Parts that are pictures or videos, of a
    type in `PICTURE_PARTS`, stay as they are, with the same objects in them. The ``None`` of a message that only calls
    tools stays too. A message that is an object of a client, such as ``response.choices[0].message``, becomes the dict
    that the client itself would send.

    Args:
        prompt: a text, or chat messages in the format of the OpenAI protocol or of transformers' chat templates.
        change: what to do with each text.

    Raises:
        EquiLMError: for a message that is neither a dict nor an object of a client, and for parts whose words could not
            be swapped: sounds, files, results of tools, pictures that come with a text of their own.
    """
    if isinstance(prompt, str):
        return change(prompt)
    return [_map_message(message, change) for message in prompt]


def prompt_texts(prompt: Prompt) -> tuple[str, ...]:
    """The texts in a prompt, in order."""
    found: list[str] = []

    def keep(text: str) -> str:
        found.append(text)
        return text

    map_texts(prompt, keep)
    return tuple(found)


def text_before(prompt: Prompt, continues: bool | None) -> str:
    """The text that an answer to the prompt continues; empty if the answer begins a text of its own.

    Args:
        prompt: a text or messages.
        continues: whether the answer continues the prompt's text; by default it does for a text and not for messages.
            After a picture a new text begins.
    """
    if continues is None:
        continues = isinstance(prompt, str)
    if not continues or not prompt or _ends_in_a_picture(prompt):
        return ""
    return "".join(prompt_texts(prompt)[-1:])


def check_picture(part: Mapping[str, Any]) -> None:
    """Refuse a picture that comes with words, which nothing would swap.

    Args:
        part: a part of a message, of a type in `PICTURE_PARTS`, or an object in it.

    Raises:
        EquiLMError: names the field.
    """
    for name, value in part.items():
        if name not in _OF_PICTURES and isinstance(value, str | Mapping | list | tuple):
            raise EquiLMError(
                f"A picture in a chat has the field {name!r} ({value!r}), which may hold words that are not swapped. "
                "Leave it out, or make it a part of the type 'text'."
            )
        if isinstance(value, Mapping) and name != "cache_control":
            check_picture(value)


def _ends_in_a_picture(prompt: Prompt) -> bool:
    content = None if isinstance(prompt, str) else _fields(prompt[-1], "a message").get("content")
    if not isinstance(content, list | tuple) or not content:
        return False
    return _fields(content[-1], "a part of a message").get("type") in PICTURE_PARTS


def _map_message(message: Message, change: Callable[[str], str]) -> dict[str, Any]:
    fields = _fields(message, "a message")
    content = fields.get("content")
    if isinstance(content, str):
        fields["content"] = change(content)
    elif isinstance(content, list | tuple):
        fields["content"] = [_map_part(_fields(part, "a part of a message"), change) for part in content]
    elif content is not None:
        raise EquiLMError(f"The content of a chat message is {content!r}: expected a text or a list of parts.")
    return _map_refusal(fields, change)


def _map_part(part: dict[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    kind = part.get("type")
    if kind in _TEXT_PARTS:
        if not isinstance(part.get("text"), str):
            raise EquiLMError(f"A part of the type {kind!r} has the text {part.get('text')!r}: expected a string.")
        part["text"] = change(part["text"])
    elif kind in PICTURE_PARTS:
        check_picture(part)
    elif kind != "refusal":
        raise EquiLMError(
            f"A message has a part of the type {kind!r}, and how a group acts on it is not known: expected text "
            f"({', '.join(_TEXT_PARTS)}, refusal) or pictures ({', '.join(PICTURE_PARTS)}). Leave it out, or write its "
            "words as text."
        )
    return _map_refusal(part, change)


def _map_refusal(fields: dict[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    if isinstance(fields.get("refusal"), str):
        fields["refusal"] = change(fields["refusal"])
    return fields


def _fields(given: Any, what: str) -> dict[str, Any]:
    """A copy of a dict, or what an object of a client would be sent as."""
    if isinstance(given, Mapping):
        return dict(given)
    if isinstance(given, PydanticModel) and not isinstance(given, type):
        return given.model_dump(mode="json", exclude_unset=True)
    raise EquiLMError(
        f"Expected {what} of a chat as a dict such as {{'role': 'user', 'content': 'Hello'}}, or an object such as "
        f"response.choices[0].message of the OpenAI client, got {given!r}."
    )
