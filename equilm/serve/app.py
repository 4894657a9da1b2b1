"""The gateway as an ASGI application."""

import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ..logging import get_logger
from .config import GatewayConfig
from .counters import Metrics
from .embeddings import embed
from .events import dumps, write_event
from .fan_out import StreamedAnswer, run_whole
from .plan import Axes, Plan, check_headers, parse, plan_chat, plan_completion
from .refusals import GatewayError, upstream_failed
from .requests import Body
from .upstream import UpstreamClient

_log = get_logger("equilm.serve")
_BODY_TIMEOUT_S = 60
_LAST_WORDS_S = 5  # for the end of a stream whose time is over
ENDPOINTS = {
    "/v1/chat/completions": "POST",
    "/v1/completions": "POST",
    "/v1/embeddings": "POST",
    "/v1/models": "GET",
    "/health": "GET",
    "/metrics": "GET",
}


class Gateway:
    """What the endpoints share.

    Args:
        config: the operator's settings.
    """

    def __init__(self, config: GatewayConfig):
        self.config = config
        self.axes = Axes(config)
        self.metrics = Metrics()
        self.client = UpstreamClient(config)

    @asynccontextmanager
    async def generations(self, count: int) -> AsyncIterator[None]:
        """Take so many of the generations that may run at once.

        Raises:
            GatewayError: if there are not as many left.
        """
        if self.metrics.in_progress + count > self.config.max_generations:
            raise GatewayError(
                429,
                f"equilm serve: too many generations at once: {count} more than {self.metrics.in_progress} would pass "
                f"the limit of {self.config.max_generations}. Try again later.",
                kind="rate_limit_error",
                code="too_many_requests",
                headers={"retry-after": "1"},
            )
        self.metrics.in_progress += count
        try:
            yield
        finally:
            self.metrics.in_progress -= count


def create_app(config: GatewayConfig) -> Starlette:
    """The application.

    Args:
        config: the operator's settings.

    Raises:
        EquiLMError: for axes that cannot be swapped in text.
    """
    gateway = Gateway(config)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await gateway.client.close()

    handlers: dict[str, _Handler] = {
        "/v1/chat/completions": partial(_generate, make=plan_chat),
        "/v1/completions": partial(_generate, make=plan_completion),
        "/v1/embeddings": _embeddings,
        "/v1/models": _models,
        "/v1/models/{model:path}": _models,
    }
    routes = [Route(path, _Endpoint(gateway, path, handle)) for path, handle in handlers.items()]

    async def health(request: Request) -> Response:
        return _json({"status": "ok", "axes": [axis.name for axis in gateway.axes.always]})

    async def metrics(request: Request) -> Response:
        return PlainTextResponse(gateway.metrics.text(), media_type="text/plain; version=0.0.4")

    routes += [
        Route("/health", health),
        Route("/metrics", metrics),
        Route("/{path:path}", _Endpoint(gateway, "", None)),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


class _Answer:
    """The one answer to a request: whole, or begun and then continued.

    Args:
        send: ASGI's.
    """

    def __init__(self, send: Send):
        self._send = send
        self.status = 0

    async def whole(self, response: Response) -> None:
        self.status = response.status_code
        await self._send({"type": "http.response.start", "status": self.status, "headers": response.raw_headers})
        await self._send({"type": "http.response.body", "body": response.body})

    async def begin(self, headers: dict[str, str]) -> None:
        """Begin a stream of events."""
        self.status = 200
        headers = {
            "content-type": "text/event-stream",
            "cache-control": "no-cache",
            "x-accel-buffering": "no",
        } | headers
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": 200, "headers": raw})

    async def go_on(self, data: bytes) -> None:
        """Waits while the client does not read."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})


# What answers at an endpoint, given the request's body too.
_Handler = Callable[[Gateway, Request, bytes, _Answer], Awaitable[None]]


class _Endpoint:
    """One endpoint as an ASGI application: it stops all work for a client that goes away, and lets no exception out.

    Args:
        gateway: what is shared.
        path: its path, for the metrics; empty for all that is not served.
        handle: what answers.
    """

    def __init__(self, gateway: Gateway, path: str, handle: _Handler | None):
        self._gateway, self._path, self._handle = gateway, path, handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begin, answer = time.perf_counter(), _Answer(send)
        request = Request(scope, receive)
        try:
            self._check(request)
            content = await _read_body(request, int(self._gateway.config.max_body_mb * 1e6))
        except GatewayError as error:
            await self._fail(error, answer)
        except ClientDisconnect:
            return
        else:
            async with anyio.create_task_group() as group:
                group.start_soon(self._stop_if_gone, receive, group.cancel_scope)
                await self._run(request, content, answer)
                group.cancel_scope.cancel()
        metrics = self._gateway.metrics
        metrics.count("equilm_requests_total", endpoint=self._path or "other", status=answer.status)
        if not answer.status:
            metrics.count("equilm_client_disconnects_total", endpoint=self._path or "other")
        _log.info("%s %s %d %.3f s", request.method, self._path or "other", answer.status, time.perf_counter() - begin)

    def _check(self, request: Request) -> None:
        served = ", ".join(ENDPOINTS)
        if self._handle is None:
            raise GatewayError(
                404,
                "equilm serve: this endpoint is refused, since the gateway does not know how a group acts on it. "
                f"Expected one of {served}.",
                code="unknown_endpoint",
            )
        method = "GET" if self._handle is _models else "POST"
        if request.method != method:
            message = f"equilm serve: {self._path} takes {method}, not {request.method}."
            raise GatewayError(405, message, code="method_not_allowed", headers={"allow": method})
        if request.headers.get("content-encoding", "identity") != "identity":
            raise GatewayError(415, "equilm serve: send the body without compression.", code="content_encoding")
        check_headers(request.headers)

    async def _run(self, request: Request, content: bytes, answer: _Answer) -> None:
        assert self._handle is not None
        try:
            with anyio.fail_after(self._gateway.config.total_timeout + _LAST_WORDS_S):
                await self._handle(self._gateway, request, content, answer)
        except GatewayError as error:
            await self._fail(error, answer)
        except TimeoutError:
            await self._fail(upstream_failed("timeout", "the request took too long.", 504), answer)
        except OSError:  # the client went away while something was sent
            return
        except Exception as error:  # noqa: BLE001  the client gets an error, whatever went wrong here
            # The message may hold text of the request, so only the place is logged.
            frames = "".join(traceback.format_tb(error.__traceback__))
            _log.error("%s in\n%s", type(error).__name__, frames)
            await self._fail(
                GatewayError(500, "equilm serve: internal error.", kind="server_error", code="bug"), answer
            )

    async def _fail(self, error: GatewayError, answer: _Answer) -> None:
        metrics = self._gateway.metrics
        _count(metrics, error)
        if answer.status:  # a stream that has begun; a client that does not read is cut off
            with anyio.move_on_after(_LAST_WORDS_S):
                await answer.go_on(write_event(error.body()))
                await answer.end()
        else:
            await answer.whole(_json(error.body(), error.status, error.headers))

    async def _stop_if_gone(self, receive: Receive, scope: anyio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()


def _count(metrics: Metrics, error: GatewayError) -> None:
    if error.upstream:
        metrics.count("equilm_upstream_errors_total", kind=error.upstream)
    else:
        metrics.count("equilm_refusals_total", reason=error.code)


async def _generate(
    gateway: Gateway, request: Request, content: bytes, answer: _Answer, make: Callable[..., Plan]
) -> None:
    begin = time.perf_counter()
    body, config, metrics = parse(content), gateway.config, gateway.metrics
    plan: Plan = make(body, request.headers, gateway.axes, config)
    if config.log_text:
        _log.info("request: %s", dumps(body).decode())
    added = time.perf_counter() - begin
    async with gateway.generations(len(plan.rows)):
        for row in plan.rows:
            metrics.count("equilm_draws_total", axes=plan.axes, element=row.element)
        if plan.stream:
            streamed = StreamedAnswer(plan, gateway.client, request.headers, metrics)
            metrics.request_seconds.add(added)
            give = partial(_go_on, answer, config.log_text)
            await streamed.run(partial(answer.begin, plan.headers()), give, config.total_timeout)
            await answer.end()
            if streamed.error is not None:
                _count(metrics, streamed.error)
            return
        with anyio.fail_after(config.total_timeout):
            answers = await run_whole(plan, gateway.client, request.headers)
    begin = time.perf_counter()
    whole = plan.whole(answers)
    if config.log_text:
        _log.info("answer: %s", dumps(whole).decode())
    response = _json(whole, headers=plan.headers())
    metrics.request_seconds.add(added + time.perf_counter() - begin)
    await answer.whole(response)


async def _go_on(answer: _Answer, log_text: bool, data: bytes) -> None:
    if log_text:
        _log.info("answer: %s", data.decode().strip())
    await answer.go_on(data)


async def _embeddings(gateway: Gateway, request: Request, content: bytes, answer: _Answer) -> None:
    body, action = parse(content), gateway.axes.action(request.headers.get("x-equilm-axes"))
    async with gateway.generations(1):
        with anyio.fail_after(gateway.config.total_timeout):
            embedded = await embed(body, action, gateway.client, request.headers)
    await answer.whole(_json(embedded))


async def _models(gateway: Gateway, request: Request, content: bytes, answer: _Answer) -> None:
    models: list[Body] = []
    for upstream in gateway.config.upstreams:
        with anyio.fail_after(gateway.config.total_timeout):
            listed = await gateway.client.get(upstream, "/models", request.headers)
        data = listed.get("data") if isinstance(listed, dict) else None
        if not isinstance(data, list) or not all(isinstance(one, dict) for one in data):
            raise upstream_failed("bad_answer", "the upstream server gave something else than a list of models.")
        models += [one for one in data if not upstream.models or one.get("id") in upstream.models]
    if (name := request.path_params.get("model")) is None:
        return await answer.whole(_json({"object": "list", "data": models}))
    for one in models:
        if one.get("id") == name:
            return await answer.whole(_json(one))
    raise GatewayError(404, f"equilm serve: no model {name!r} here.", code="model_not_found", param="model")


async def _read_body(request: Request, largest: int) -> bytes:
    """The body of a request, of at most so many bytes."""
    too_large = GatewayError(413, f"equilm serve: the body is larger than {largest} bytes.", code="too_large")
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > largest:
        raise too_large
    content = bytearray()
    try:
        with anyio.fail_after(_BODY_TIMEOUT_S):
            async for piece in request.stream():
                content += piece
                if len(content) > largest:
                    raise too_large
    except TimeoutError as error:
        raise GatewayError(408, "equilm serve: the body did not come in time.", code="slow_body") from error
    return bytes(content)


def _json(data: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(dumps(data), status, headers, "application/json")
