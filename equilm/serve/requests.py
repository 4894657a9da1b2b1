"""Requests of the OpenAI protocol: which fields may pass, and how the group acts on those that hold text."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import EquiLMError
from ..text.action import TextAction
from ..text.chat import PICTURE_PARTS, check_picture
from .json_text import act_on_json, is_json_structure
from .refusals import invalid, refused
from .schemas import map_schema

Body = dict[str, Any]

# Strings and objects that no model reads as text.
_OPAQUE = {
    *("model", "user", "service_tier", "reasoning_effort", "verbosity", "safety_identifier", "metadata"),
    *("prompt_cache_key", "prompt_cache_retention"),
}
# What the gateway answers itself.
_OWN = {"n", "stream", "stream_options", "seed", "echo"}
_REFUSED = {
    "logprobs": "log-probabilities name tokens, whose swap has other tokens",
    "top_logprobs": "log-probabilities name tokens, whose swap has other tokens",
    "prompt_logprobs": "log-probabilities name tokens, whose swap has other tokens",
    "n_probs": "log-probabilities name tokens, whose swap has other tokens",
    "logit_bias": "a bias on tokens cannot follow the swap of words, which may have other tokens",
    "functions": "the older form of tools is not supported: use tools",
    "function_call": "the older form of tool_choice is not supported: use tool_choice",
    "audio": "how a group acts on speech is not known",
}
# What asks for nothing. For completions, ``logprobs: 0`` asks for those of the tokens that were chosen.
_HARMLESS: dict[str, tuple[tuple[type, Any], ...]] = {
    "logprobs": ((bool, False),),
    "top_logprobs": ((int, 0),),
    "n_probs": ((int, 0),),
    "logit_bias": ((dict, {}), (list, [])),
}


class Acted:
    """How ``g`` acts on the parts of a request."""

    def __init__(self, action: TextAction, g: int):
        self._action, self._g = action, g

    def text(self, text: str) -> str:
        """``g·text``."""
        return self._action.act(text, self._g)

    def is_fixed(self, text: str) -> bool:
        """Whether every element of the group leaves a text as it is: the same for all requests of an orbit."""
        return all(image == text for image in self._action.orbit(text))

    def json(self, text: str) -> str:
        """``g`` on each string of a JSON text."""
        return act_on_json(self._action, text, self._g)


def common_fields(body: Mapping[str, Any], own: Mapping[str, Callable[[Any, Acted], Any]], acted: Acted) -> Body:
    """What is sent upstream of a request, but for the fields that the gateway answers itself.

    Numbers and booleans pass, since no word is in them; text passes only where the action on it is known.

    Args:
        body: the request.
        own: how to act on the fields that hold text.
        acted: the element that acts.

    Raises:
        GatewayError: for a field that would make answers unfair, or might.
    """
    sent: Body = {}
    for name, value in body.items():
        if name in _OWN:
            continue
        if name in _REFUSED:
            if value is not None and (type(value), value) not in _HARMLESS.get(name, ()):
                raise refused(name, f"{name} is refused: {_REFUSED[name]}. Leave it out.")
        elif value is None:
            continue
        elif name in own:
            sent[name] = own[name](value, acted)
        elif name in _OPAQUE or isinstance(value, bool | int | float) or _holds_no_words(name, value):
            sent[name] = value
        else:
            raise refused(
                name,
                f"{name} is refused: it may hold words or name tokens, and the gateway does not know how to swap them. "
                "Leave it out. Fields whose value is a number or a boolean pass.",
            )
    return sent


def _holds_no_words(name: str, value: Any) -> bool:
    if name == "modalities":
        return bool(value == ["text"])
    numbers = isinstance(value, dict) and all(isinstance(item, bool | int | float) for item in value.values())
    return name == "chat_template_kwargs" and numbers


def chat_fields(body: Mapping[str, Any], acted: Acted) -> Body:
    """``g·request`` for a chat.

    Raises:
        GatewayError: as `common_fields`, and for what is no chat request.
    """
    if not isinstance(body.get("messages"), list) or not body["messages"]:
        raise invalid("messages", "messages is missing or empty: expected a list of chat messages.")
    if body.get("echo"):
        raise refused("echo", "echo is refused for chats: the answer would repeat swapped text. Leave it out.")
    return common_fields(body, _CHAT, acted)


def completion_fields(body: Mapping[str, Any], acted: Acted) -> Body:
    """``g·request`` for a text to continue, whose prompt is one text.

    Raises:
        GatewayError: as `common_fields`.
    """
    return common_fields(body, _COMPLETION, acted)


def wants_json(body: Mapping[str, Any]) -> bool:
    """Whether the answer's content is to be JSON, so that the group acts on the strings in it."""
    wanted = body.get("response_format")
    return isinstance(wanted, dict) and wanted.get("type") in ("json_object", "json_schema")


def text_continued(body: Mapping[str, Any]) -> str:
    """The text that the answer to a chat continues: the last message's, where the request says so; else empty."""
    last = body["messages"][-1]
    if body.get("continue_final_message") or (isinstance(last, dict) and last.get("prefix") is True):
        content = last.get("content")
        return content if isinstance(content, str) else ""
    return ""


def _messages(messages: Any, acted: Acted) -> Any:
    return [_message(message, acted, f"messages[{i}]") for i, message in enumerate(messages)]


def _message(message: Any, acted: Acted, where: str) -> Body:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise invalid(where, f"{where} is no chat message: expected an object with a role and a content.")
    sent: Body = {}
    for name, value in message.items():
        if name == "content":
            sent[name] = _content(value, acted, f"{where}.content", message["role"] == "tool")
        elif name in ("name", "refusal", "reasoning_content", "reasoning") and isinstance(value, str):
            sent[name] = acted.text(value)
        elif name == "tool_calls" and isinstance(value, list):
            sent[name] = [_tool_call(call, acted, f"{where}.tool_calls[{i}]") for i, call in enumerate(value)]
        elif name in ("role", "tool_call_id") or value is None or isinstance(value, bool | int | float):
            sent[name] = value
        elif value in ([], {}):  # annotations and the like, as SDKs give a message back
            continue
        else:
            raise refused(f"{where}.{name}", f"{where}.{name} is refused: the gateway does not know how to swap it.")
    return sent


def _content(content: Any, acted: Acted, where: str, may_be_json: bool) -> Any:
    if content is None:
        return None
    if isinstance(content, str):
        return acted.json(content) if may_be_json and is_json_structure(content) else acted.text(content)
    if not isinstance(content, list):
        raise invalid(where, f"{where} is of the type {type(content).__name__}: expected text or a list of parts.")
    return [_part(part, acted, f"{where}[{i}]") for i, part in enumerate(content)]


def _part(part: Any, acted: Acted, where: str) -> Any:
    kind = part.get("type") if isinstance(part, dict) else None
    for name in ("text", "refusal"):
        if kind == name and isinstance(part.get(name), str):
            return {**part, name: acted.text(part[name])}
    if kind in PICTURE_PARTS:
        try:
            check_picture(part)
        except EquiLMError as error:
            raise refused(where, f"{where}: {error}") from error
        return part  # the group leaves pictures as they are
    raise refused(
        where,
        f"{where} is of the type {kind!r}: expected text, refusal, or a picture such as image_url. "
        "The gateway does not know how a group acts on other content.",
    )


def _tool_call(call: Any, acted: Acted, where: str) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise refused(where, f"{where} is no call of a function: only tools of the type 'function' can be swapped.")
    arguments = function.get("arguments") or ""
    if not isinstance(arguments, str):
        raise invalid(where, f"{where}: arguments must be a JSON text.")
    return {**call, "function": {"name": acted.text(function["name"]), "arguments": acted.json(arguments)}}


def _tools(tools: Any, acted: Acted) -> Any:
    if not isinstance(tools, list):
        raise invalid("tools", "tools must be a list.")
    return [_tool(tool, acted, f"tools[{i}]") for i, tool in enumerate(tools)]


def _tool(tool: Any, acted: Acted, where: str) -> Any:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or tool.get("type") != "function":
        raise refused(where, f"{where} is refused: only tools of the type 'function' can be swapped.")
    return {**tool, "function": map_schema_of(function, acted, f"{where}.function")}


def map_schema_of(holder: Mapping[str, Any], acted: Acted, where: str) -> Body:
    """An object that names and describes something and has a schema: a function, or a response format."""
    sent: Body = {}
    for name, value in holder.items():
        if name in ("parameters", "schema"):
            sent[name] = map_schema(value, acted.text, acted.is_fixed, f"{where}.{name}")
        elif isinstance(value, str):
            sent[name] = acted.text(value)
        elif value is None or isinstance(value, bool):
            sent[name] = value
        else:
            raise refused(f"{where}.{name}", f"{where}.{name} is refused: the gateway does not know how to swap it.")
    return sent


def _tool_choice(choice: Any, acted: Acted) -> Any:
    if isinstance(choice, str):
        return choice
    function = choice.get("function") if isinstance(choice, dict) else None
    if isinstance(function, dict) and isinstance(function.get("name"), str):
        return {"type": "function", "function": {"name": acted.text(function["name"])}}
    raise refused("tool_choice", "tool_choice is refused: expected none, auto, required or one function by its name.")


def _response_format(wanted: Any, acted: Acted) -> Any:
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind in ("text", "json_object") and len(wanted) == 1:
        return wanted
    if kind == "json_schema" and isinstance(wanted.get("json_schema"), dict) and len(wanted) == 2:
        schema = map_schema_of(wanted["json_schema"], acted, "response_format.json_schema")
        return {"type": kind, "json_schema": schema}
    raise refused(
        "response_format", f"response_format is refused: expected text, json_object or json_schema, got {kind!r}."
    )


def _stop(stop: Any, acted: Acted) -> Any:
    if isinstance(stop, str):
        return acted.text(stop)
    if isinstance(stop, list) and all(isinstance(one, str) for one in stop):
        return [acted.text(one) for one in stop]
    raise invalid("stop", "stop must be a text or a list of texts.")


def _prediction(prediction: Any, acted: Acted) -> Any:
    if not isinstance(prediction, dict) or prediction.get("type") != "content" or "content" not in prediction:
        raise refused("prediction", "prediction is refused: expected an object of the type 'content'.")
    return {"type": "content", "content": _content(prediction["content"], acted, "prediction.content", False)}


def _plain_text(text: Any, acted: Acted) -> Any:
    if not isinstance(text, str):
        raise refused("prompt", "prompt and suffix must be texts: tokens cannot be swapped. Send the text instead.")
    return acted.text(text)


_CHAT: dict[str, Callable[[Any, Acted], Any]] = {
    "messages": _messages,
    "tools": _tools,
    "tool_choice": _tool_choice,
    "response_format": _response_format,
    "stop": _stop,
    "prediction": _prediction,
}
_COMPLETION: dict[str, Callable[[Any, Acted], Any]] = {"prompt": _plain_text, "suffix": _plain_text, "stop": _stop}


def canonical(sent: Body) -> str:
    """A request as one text, to choose the first of an orbit by."""
    return json.dumps(sent, sort_keys=True)
