"""Answers of an upstream server, swapped back: rebuilt from the known fields, so that nothing plain is left in them."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..text.action import TextAction
from ..text.streaming import StreamingTextAction
from .json_text import StreamingJsonAction
from .refusals import GatewayError, upstream_failed

# The texts of a chat message; of them only the content may be JSON.
TEXTS = ("content", "refusal", "reasoning_content", "reasoning")
_HEAD = ("id", "object", "created", "model", "system_fingerprint", "service_tier")


class Undo:
    """How one answer is swapped back.

    Args:
        action: the action on texts.
        g: the element that the answer's request was acted on by.
        before: the text that was sent and that the answer continues.
        json_content: whether the content is JSON.
    """

    def __init__(self, action: TextAction, g: int, before: str = "", json_content: bool = False):
        self.action, self.inverse = action, action.group.inverse(g)
        self._before, self._json_content = before, json_content

    def name(self, name: str) -> str:
        """A text that came whole."""
        return self.action.act(name, self.inverse)

    def arguments(self) -> StreamingJsonAction:
        """For the arguments of a call."""
        return StreamingJsonAction(self.action, self.inverse)

    def stream(self, field: str) -> StreamingTextAction | StreamingJsonAction:
        """For a text of the answer: its ``content`` or ``text``, a refusal or reasoning."""
        if field == "content" and self._json_content:
            return self.arguments()
        return StreamingTextAction(self.action, self.inverse, self._before if field in ("content", "text") else "")

    def whole(self, field: str, text: str) -> str:
        """A text of the answer, all of it."""
        stream = self.stream(field)
        return stream.feed(text) + stream.flush()


def chat_answer(answers: Sequence[Any], undo: Sequence[Undo]) -> dict[str, Any]:
    """One answer with a choice for each of the upstream's answers.

    Args:
        answers: what was received, in the order of the choices.
        undo: how to swap each of them back.

    Raises:
        GatewayError: for an answer that is none of the protocol.
    """
    choices = []
    for index, (answer, back) in enumerate(zip(answers, undo, strict=True)):
        choice = only_choice(answer)
        message = choice.get("message")
        if not isinstance(message, dict):
            raise malformed("a choice without a message")
        choices.append({**_choice(choice, index), "message": _message(message, back)})
    return {**head(answers[0]), "object": "chat.completion", "choices": choices, **usage_of(answers)}


def completion_answer(answers: Sequence[Any], undo: Sequence[Undo], echoes: Sequence[str]) -> dict[str, Any]:
    """The same for texts that were continued.

    Args:
        answers: what was received, in the order of the choices.
        undo: how to swap each of them back.
        echoes: what to put before each text.

    Raises:
        GatewayError: for an answer that is none of the protocol.
    """
    choices = []
    for index, (answer, back, echo) in enumerate(zip(answers, undo, echoes, strict=True)):
        choice = only_choice(answer)
        text = choice.get("text")
        if not isinstance(text, str):
            raise malformed("a choice without a text")
        choices.append({**_choice(choice, index), "text": echo + back.whole("text", text)})
    return {**head(answers[0]), "object": "text_completion", "choices": choices, **usage_of(answers)}


def only_choice(answer: Any) -> Mapping[str, Any]:
    """The one choice of an upstream's answer."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise malformed("another number of choices than the one that was asked for")
    return choices[0]


def head(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What identifies an answer or a chunk."""
    return {name: answer[name] for name in _HEAD if isinstance(answer.get(name), str | int)}


def usage_of(answers: Sequence[Any]) -> dict[str, Any]:
    """The tokens that all generations took together, if upstream tells."""
    usages = [answer.get("usage") for answer in answers]
    return {"usage": add_usage(usages)} if all(isinstance(usage, dict) for usage in usages) else {}


def add_usage(usages: Sequence[Any]) -> dict[str, Any]:
    """The sum of some usages, number by number."""
    total: dict[str, Any] = {}
    for usage in usages:
        for name, value in usage.items():
            if isinstance(value, dict):
                total[name] = add_usage([total.get(name) or {}, value])
            elif isinstance(value, int | float) and not isinstance(value, bool):
                total[name] = total.get(name, 0) + value
    return total


def malformed(what: str) -> GatewayError:
    """The error for an answer that is none of the protocol."""
    return upstream_failed("bad_answer", f"the upstream server gave {what}, which is no answer of the OpenAI protocol.")


def finish_reason(choice: Mapping[str, Any]) -> str | None:
    """Why a choice ended, if it has."""
    reason = choice.get("finish_reason")
    if reason is not None and not isinstance(reason, str):
        raise malformed("a finish_reason that is no text")
    return reason


def _choice(choice: Mapping[str, Any], index: int) -> dict[str, Any]:
    return {"index": index, "logprobs": None, "finish_reason": finish_reason(choice)}


def _message(message: Mapping[str, Any], undo: Undo) -> dict[str, Any]:
    back: dict[str, Any] = {"role": "assistant", "content": None}
    for field in TEXTS:
        text = message.get(field)
        if isinstance(text, str):
            back[field] = undo.whole(field, text)
        elif text is not None:
            raise malformed(f"a message whose {field} is no text")
    if message.get("audio") or message.get("function_call"):
        raise malformed("speech or a call of the older form, which was not asked for")
    if calls := message.get("tool_calls"):
        if not isinstance(calls, list):
            raise malformed("tool_calls that are no list")
        back["tool_calls"] = [_tool_call(call, undo) for call in calls]
    return back


def _tool_call(call: Any, undo: Undo) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise malformed("a tool call that is no call of a function")
    arguments = function.get("arguments") or ""
    if not isinstance(arguments, str):
        raise malformed("arguments that are no JSON text")
    stream = undo.arguments()
    arguments = stream.feed(arguments) + stream.flush()
    name = undo.name(function["name"])
    return {"id": str(call.get("id")), "type": "function", "function": {"name": name, "arguments": arguments}}
