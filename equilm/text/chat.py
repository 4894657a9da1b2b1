"""Prompts as texts: a prompt is a text or a list of chat messages, and the group acts on every text in it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Message = Mapping[str, Any]
Prompt = str | Sequence[Message]


def map_texts(prompt: Prompt, change: Callable[[str], str]) -> Any:
    """A prompt with each of its texts changed, and all else as it is: roles, images, names, tool calls.

    The texts of a chat message are its ``content``, or the ``text`` of each part of it that has ``"type": "text"``.
    A ``content`` of another kind, such as the ``None`` of a message that only calls tools, stays as it is.

    Args:
        prompt: a text, or messages as the OpenAI protocol has them.
        change: what to do with each text.
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
        continues: whether it continues one: by default the answer to a text does, the reply to messages does not.
    """
    if continues is None:
        continues = isinstance(prompt, str)
    return "".join(prompt_texts(prompt)[-1:]) if continues else ""


def _map_message(message: Message, change: Callable[[str], str]) -> Message:
    content = message.get("content")
    if isinstance(content, str):
        return {**message, "content": change(content)}
    if isinstance(content, list | tuple):
        return {**message, "content": [_map_part(part, change) for part in content]}
    return message


def _map_part(part: Any, change: Callable[[str], str]) -> Any:
    return {**part, "text": change(part["text"])} if part["type"] == "text" else part
