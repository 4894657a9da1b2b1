"""From a request to the generations that answer it: which axes are on, what is drawn, what is sent where."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain
from typing import Any

from ..errors import EquiLMError
from ..text.action import TextAction
from ..words.axes import load_axes
from .answers import Undo, chat_answer, completion_answer
from .chunks import ChatStream, ChoiceStream, CompletionStream
from .config import GatewayConfig, header_axes
from .draws import Row, Seeds, draw
from .refusals import GatewayError, invalid, refused
from .requests import Acted, Body, chat_fields, completion_fields, text_continued, wants_json

HEADERS = ("x-equilm-axes", "x-equilm-seed", "x-equilm-return-elements")


class Axes:
    """The axes that an operator allows, and the action of those that a request turns on."""

    def __init__(self, config: GatewayConfig):
        self.always = load_axes(config.axes) if config.axes else ()
        self.allowed = tuple(chain.from_iterable(load_axes(axis) for axis in config.allowed_axes))
        names = [axis.name for axis in (*self.always, *self.allowed)]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise EquiLMError(f"The axis {twice!r} is given twice: expected each once, as --axis or as --allow-axis.")
        self._pronouns = config.pronouns
        self._action = lru_cache(64)(self._make)
        for axis in self.allowed:
            self._action((axis.name,))
        if self.always:
            self._action(())

    def action(self, header: str | None) -> TextAction:
        """The action of the axes that are always on and of those that a header names.

        Raises:
            GatewayError: for an axis that is not allowed, and for axes that do not go together.
        """
        wanted = header_axes(header)
        known = [axis.name for axis in (*self.always, *self.allowed)]
        for name in wanted:
            if name not in known:
                raise refused(
                    "X-Equilm-Axes", f"no axis {name!r} is allowed here: expected some of {', '.join(known)}."
                )
        chosen = tuple(axis.name for axis in self.allowed if axis.name in wanted)
        if not chosen and not self.always:
            raise refused("X-Equilm-Axes", f"name at least one axis in this header, of {', '.join(known)}.")
        try:
            return self._action(chosen)
        except EquiLMError as error:
            raise refused("X-Equilm-Axes", f"these axes do not go together. {error}") from error

    def _make(self, chosen: tuple[str, ...]) -> TextAction:
        axes = [*self.always, *(axis for axis in self.allowed if axis.name in chosen)]
        return TextAction(axes, self._pronouns)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Plan:
    """How a request is answered.

    Args:
        path: of the endpoint, below the base URL.
        model: whom to ask for.
        action: how the group acts on texts.
        rows: the generations, in the order of the answer's choices.
        undo: how to swap each of them back.
        echoes: what to put before each text of a completion.
        stream: whether the answer is streamed.
        with_usage: whether a stream ends with its usage.
        return_elements: whether the client wants to know the elements.
    """

    path: str
    model: str
    action: TextAction
    rows: tuple[Row, ...]
    undo: tuple[Undo, ...]
    echoes: tuple[str, ...]
    stream: bool
    with_usage: bool
    return_elements: bool

    @property
    def axes(self) -> str:
        """The names of the axes that are on."""
        return ",".join(axis.name for axis in self.action.axes)

    def whole(self, answers: list[Any]) -> Body:
        """The answer, swapped back."""
        if self.path == "/chat/completions":
            return chat_answer(answers, self.undo)
        return completion_answer(answers, self.undo, self.echoes)

    def choices(self) -> list[ChoiceStream]:
        """The streams of all choices."""
        if self.path == "/chat/completions":
            return [ChatStream(undo, i) for i, undo in enumerate(self.undo)]
        return [
            CompletionStream(undo, i, echo) for i, (undo, echo) in enumerate(zip(self.undo, self.echoes, strict=True))
        ]

    def headers(self) -> dict[str, str]:
        """The headers that tell what was drawn, if that was asked for."""
        if not self.return_elements:
            return {}
        return {"x-equilm-axes": self.axes, "x-equilm-elements": ",".join(str(row.element) for row in self.rows)}


def parse(content: bytes) -> Body:
    """A request's body.

    Raises:
        GatewayError: if it is no object in JSON.
    """
    try:
        body = json.loads(content, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise invalid(None, "the body is not JSON in UTF-8.") from error
    if not isinstance(body, dict):
        raise invalid(None, "the body is no JSON object.")
    return body


def check_headers(headers: Mapping[str, str]) -> None:
    """Refuse a header of the gateway's that it does not know: a misspelt one would change nothing unseen."""
    for name in headers:
        if name.startswith("x-equilm-") and name not in HEADERS:
            raise invalid(name, f"unknown header {name}: expected only {', '.join(HEADERS)}.")


def plan_chat(body: Body, headers: Mapping[str, str], axes: Axes, config: GatewayConfig) -> Plan:
    """How to answer a chat.

    Raises:
        GatewayError: for what is no request, or would be unfair.
    """

    @cache
    def request(element: int) -> Body:
        return chat_fields(body, Acted(action, element))

    action = axes.action(headers.get("x-equilm-axes"))
    n = _n(body, config)
    rows = _draw_rows(action, [request] * n, body, headers)
    undo = [Undo(action, row.element, text_continued(row.sent), wants_json(body)) for row in rows]
    return _plan("/chat/completions", body, headers, action, rows, undo, [""] * n)


def plan_completion(body: Body, headers: Mapping[str, str], axes: Axes, config: GatewayConfig) -> Plan:
    """How to continue texts.

    Raises:
        GatewayError: for what is no request, or would be unfair.
    """
    action = axes.action(headers.get("x-equilm-axes"))
    prompts = body.get("prompt")
    prompts = [prompts] if isinstance(prompts, str) else prompts
    if not isinstance(prompts, list) or not prompts or not all(isinstance(prompt, str) for prompt in prompts):
        raise refused("prompt", "prompt must be a text or a list of texts: tokens cannot be swapped. Send the text.")
    n = _n(body, config)
    if n > 1:
        if body.get("best_of") not in (None, 1, n):
            raise refused("best_of", "best_of is refused with n above 1: the choices are drawn independently.")
        body = {name: value for name, value in body.items() if name != "best_of"}

    def request_for(prompt: str) -> Callable[[int], Body]:
        return cache(lambda element: completion_fields({**body, "prompt": prompt}, Acted(action, element)))

    requests = [request for request in map(request_for, prompts) for _ in range(n)]
    rows = _draw_rows(action, requests, body, headers)
    undo = [Undo(action, row.element, row.sent["prompt"]) for row in rows]
    echoes = [prompt if body.get("echo") else "" for prompt in prompts for _ in range(n)]
    return _plan("/completions", body, headers, action, rows, undo, echoes)


def _plan(
    path: str,
    body: Body,
    headers: Mapping[str, str],
    action: TextAction,
    rows: list[Row],
    undo: list[Undo],
    echoes: list[str],
) -> Plan:
    stream = body.get("stream") or False
    options = body.get("stream_options") or {}
    if not isinstance(stream, bool) or not isinstance(options, dict):
        raise invalid("stream", "stream must be true or false, and stream_options an object.")
    if stream:
        added = {
            "stream": True,
            **({"stream_options": {"include_usage": True}} if options.get("include_usage") else {}),
        }
        rows = [Row(row.element, {**row.sent, **added}) for row in rows]
    model = body.get("model")
    if not isinstance(model, str):
        raise invalid("model", "model is missing: expected the name of a model.")
    return Plan(
        path=path,
        model=model,
        action=action,
        rows=tuple(rows),
        undo=tuple(undo),
        echoes=tuple(echoes),
        stream=stream,
        with_usage=bool(options.get("include_usage")),
        return_elements=_flag(headers, "x-equilm-return-elements"),
    )


def _draw_rows(
    action: TextAction, requests: list[Callable[[int], Body]], body: Body, headers: Mapping[str, str]
) -> list[Row]:
    header = headers.get("x-equilm-seed")
    try:
        seed = None if header is None else int(header)
    except ValueError:
        raise invalid("X-Equilm-Seed", f"the header X-Equilm-Seed is {header!r}: expected an integer.") from None
    own = body.get("seed")
    if own is not None and (isinstance(own, bool) or not isinstance(own, int)):
        raise invalid("seed", "seed must be an integer.")
    seeds = Seeds.of(seed, own)
    return [draw(action.group, request, seeds, number) for number, request in enumerate(requests)]


def _n(body: Body, config: GatewayConfig) -> int:
    n = body.get("n")
    n = 1 if n is None else n
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= config.max_choices:
        raise invalid("n", f"n is {n!r}: expected an integer from 1 to {config.max_choices}.")
    return n


def _flag(headers: Mapping[str, str], name: str) -> bool:
    value = headers.get(name, "false").lower()
    if value not in ("true", "false", "1", "0"):
        raise invalid(name, f"the header {name} is {value!r}: expected true or false.")
    return value in ("true", "1")


def _no_constant(name: str) -> GatewayError:
    raise ValueError(name)
