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


def map_texts(prompt: Prompt, change: Callable[[str], str]) -> Any:
    """A prompt with each of its texts changed. Everything else stays: roles, images, names, tool calls.

    The texts of a chat message are its ``content``, or the ``text`` of each part of it whose ``type`` is "text",
    "input_text" or "output_text"; and, of a message or a part, its ``refusal``. A ``content`` of another kind, such as
    the ``None`` of a message that only calls tools, is left unchanged. A message that is an object of a client, such as
    ``response.choices[0].message``, becomes the dict that the client itself would send.

    Args:
        prompt: a text, or chat messages in the format of the OpenAI protocol.
        change: what to do with each text.

    Raises:
        EquiLMError: for a message that is neither a dict nor an object of a client.
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
    """
    if continues is None:
        continues = isinstance(prompt, str)
    return "".join(prompt_texts(prompt)[-1:]) if continues else ""


def _map_message(message: Message, change: Callable[[str], str]) -> dict[str, Any]:
    fields = _fields(message, "a message")
    content = fields.get("content")
    if isinstance(content, str):
        fields["content"] = change(content)
    elif isinstance(content, list | tuple):
        fields["content"] = [_map_part(_fields(part, "a part of a message"), change) for part in content]
    return _map_refusal(fields, change)


def _map_part(part: dict[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    if part.get("type") in _TEXT_PARTS:
        part["text"] = change(part["text"])
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
