"""Runs the generations of a request at once, and gives their answer whole or as a stream."""

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from .answers import add_usage, malformed
from .chunks import ChoiceStream, Chunk
from .counters import Metrics
from .events import DONE, write_event
from .plan import Plan
from .refusals import GatewayError, upstream_failed
from .upstream import UpstreamClient, error_of

# Chunks that wait for the client: more are not read from upstream before these are gone.
_WAITING = 16


class _End(NamedTuple):
    """The end of an upstream's stream, and whether the protocol's mark was there."""

    marked: bool


_Item = tuple[int, Any]


async def run_whole(plan: Plan, client: UpstreamClient, headers: Mapping[str, str]) -> list[Any]:
    """The answers of all generations of a request.

    Raises:
        GatewayError: if one of them fails; the others are then stopped.
    """
    upstream = client.for_model(plan.model)
    answers: list[Any] = [None] * len(plan.rows)
    failures: list[GatewayError] = []

    async def ask(number: int) -> None:
        try:
            sent = plan.rows[number].sent
            answers[number] = await client.post(upstream, plan.path, headers, sent, plan.undo[number])
        except GatewayError as error:
            failures.append(error)
            group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for number in range(len(plan.rows)):
            group.start_soon(ask, number)
    if failures:
        raise failures[0]
    return answers


class StreamedAnswer:
    """The answer of a request as a stream of events, all choices in one as they come.

    Args:
        plan: what is asked for.
        client: the upstream servers.
        headers: of the request.
        metrics: where the time for each chunk is noted.

    Raises:
        GatewayError: if no server has the model.
    """

    def __init__(self, plan: Plan, client: UpstreamClient, headers: Mapping[str, str], metrics: Metrics):
        self._plan, self._client, self._headers, self._metrics = plan, client, headers, metrics
        self._upstream = client.for_model(plan.model)
        self._choices: list[ChoiceStream] = plan.choices()
        self._begun = anyio.Event()
        self._failure: GatewayError | None = None
        self._id: dict[str, Any] = {}
        self.error: GatewayError | None = None

    async def run(
        self, start: Callable[[], Awaitable[None]], give: Callable[[bytes], Awaitable[None]], timeout: float
    ) -> None:
        """Pass on the stream.

        Args:
            start: called once, when the first upstream has begun to answer.
            give: called with the bytes of one event or several.
            timeout: seconds after which it ends with what was held back and an error.

        Raises:
            GatewayError: for a failure before ``start``; one after it becomes the last event.
        """
        send, receive = anyio.create_memory_object_stream[_Item](_WAITING)
        failure: GatewayError | None = None
        end = anyio.current_time() + timeout
        async with send, receive, anyio.create_task_group() as group:
            for number in range(len(self._plan.rows)):
                group.start_soon(self._read, number, send)
            with anyio.move_on_after(timeout) as waiting:
                await self._begun.wait()
            failure = _took_too_long() if waiting.cancelled_caught else self._failure
            if failure is None:
                await start()
                await self._pass_on(receive, give, end)
            group.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _read(self, number: int, send: MemoryObjectSendStream[_Item]) -> None:
        plan, marked = self._plan, False
        sent, undo = plan.rows[number].sent, plan.undo[number]
        try:
            async with self._client.events(self._upstream, plan.path, self._headers, sent, undo) as events:
                self._begun.set()
                async for data in events:
                    if marked := data.strip() == "[DONE]":
                        break
                    await send.send((number, _parse(data)))
            await send.send((number, _End(marked)))
        except GatewayError as error:
            if not self._begun.is_set():
                self._failure = error
                self._begun.set()
            await send.send((number, error))

    async def _pass_on(
        self, receive: MemoryObjectReceiveStream[_Item], give: Callable[[bytes], Awaitable[None]], end: float
    ) -> None:
        try:
            await self._all_choices(receive, give, end)
        except GatewayError as error:
            self.error = error
            await give(b"".join((*self._rest(receive), write_event(error.body()))))
            return
        if self._plan.with_usage and (usage := self._usage()) is not None:
            await give(write_event({**self._id, "choices": [], "usage": usage}))
        await give(DONE)

    async def _all_choices(
        self, receive: MemoryObjectReceiveStream[_Item], give: Callable[[bytes], Awaitable[None]], end: float
    ) -> None:
        running = len(self._choices)
        while running:
            number, item = await _next(receive, end)
            begin = time.perf_counter()
            if isinstance(item, GatewayError):
                raise item
            if isinstance(item, _End):
                choice = self._choices[number]
                if not choice.finished and not item.marked:
                    raise upstream_failed("upstream_broken", "the upstream server broke off its answer.")
                running -= 1
                data = b"" if choice.finished else b"".join(map(self._event, choice.flush()))
            else:
                data = b"".join(self._events(number, item))
                self._metrics.chunk_seconds.add(time.perf_counter() - begin)
            if data:
                await give(data)

    def _events(self, number: int, item: Any) -> list[bytes]:
        if _is_error(item):
            raise error_of(item, self._plan.undo[number], 502)
        return [self._event(chunk) for chunk in self._choices[number].chunks(item)]

    def _event(self, chunk: Chunk) -> bytes:
        """All chunks of an answer share the first one's id, as the protocol has it."""
        self._id = self._id or {name: value for name, value in chunk.items() if name != "choices"}
        return write_event({**self._id, "choices": chunk["choices"]})

    def _rest(self, receive: MemoryObjectReceiveStream[_Item]) -> list[bytes]:
        """What had come before an error, and what was held back."""
        events: list[bytes] = []
        while True:
            try:
                number, item = receive.receive_nowait()
            except anyio.WouldBlock:
                break
            if isinstance(item, dict) and not _is_error(item):
                try:
                    events += self._events(number, item)
                except GatewayError:
                    continue
        for choice in self._choices:
            if not choice.finished:
                events += map(self._event, choice.flush())
        return events

    def _usage(self) -> dict[str, Any] | None:
        usages = [choice.usage for choice in self._choices]
        return add_usage(usages) if all(usage is not None for usage in usages) else None


async def _next(receive: MemoryObjectReceiveStream[_Item], end: float) -> _Item:
    try:
        return receive.receive_nowait()
    except anyio.WouldBlock:
        with anyio.move_on_after(end - anyio.current_time()):
            return await receive.receive()
    raise _took_too_long()


def _is_error(item: Any) -> bool:
    """Whether an event is an error: as the protocol has it, or as older versions of vLLM do."""
    return isinstance(item, dict) and bool(item.get("error") or item.get("object") == "error")


def _took_too_long() -> GatewayError:
    return upstream_failed("timeout", "the request took too long.", 504)


def _parse(data: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise malformed("an event that is not JSON") from error
