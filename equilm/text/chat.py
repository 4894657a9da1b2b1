"""Prompts as texts: a prompt is a text or a list of chat messages, and the group acts on every text in it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Message = Mapping[str, Any]
Prompt = str | Sequence[Message]


def map_texts(prompt: Prompt, change: Callable[[str], str]) -> Any:
    """A prompt with each of its texts changed. Everything else stays: roles, images, names, tool calls.

    The texts of a chat message are its ``content``, or the ``text`` of each part of it that has ``"type": "text"``.
    A ``content`` of another kind, such as ``None`` in a message that only calls tools, is left unchanged.

    Args:
        prompt: a text, or chat messages in the format of the OpenAI protocol.
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
        continues: whether the answer continues the prompt's text; by default it does for a text and not for messages.
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
