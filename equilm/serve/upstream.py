"""The connections to upstream servers: whatever goes wrong there becomes an error for the client."""

import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx

from .answers import Undo, malformed
from .config import GatewayConfig, Upstream
from .events import dumps, read_events
from .refusals import GatewayError, upstream_failed

_PASSED_ON = (
    *("authorization", "api-key", "x-api-key", "openai-organization", "openai-project"),
    *("x-request-id", "traceparent", "tracestate"),
)
_KEPT_S = 3  # seconds that an idle connection is kept: many servers close theirs after 5
_PASSED_BACK = ("retry-after", "retry-after-ms", "x-request-id")


class UpstreamClient:
    """All connections of a gateway to its upstream servers.

    Args:
        config: timeouts, limits and the proxy.
    """

    def __init__(self, config: GatewayConfig):
        self._config = config
        self._largest = int(config.max_answer_mb * 1e6)
        timeout = httpx.Timeout(config.stall_timeout, connect=config.connect_timeout, pool=None)
        limits = httpx.Limits(
            max_connections=None, max_keepalive_connections=config.max_generations, keepalive_expiry=_KEPT_S
        )
        # The environment's settings are left out: a .netrc would replace the client's key.
        self._client = httpx.AsyncClient(timeout=timeout, limits=limits, trust_env=False, proxy=config.proxy)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    def for_model(self, model: str) -> Upstream:
        """The server that has a model.

        Raises:
            GatewayError: if there is none.
        """
        by_default = [upstream for upstream in self._config.upstreams if not upstream.models]
        for upstream in self._config.upstreams:
            if model in upstream.models:
                return upstream
        if not by_default:
            raise GatewayError(404, f"equilm serve: no model {model!r} here.", code="model_not_found", param="model")
        return by_default[0]

    async def get(self, upstream: Upstream, path: str, headers: Mapping[str, str]) -> Any:
        """The JSON that a server has at a path."""
        async with self._request("GET", upstream, path, headers, None, None) as response:
            return await self._json(response, upstream)

    async def post(
        self, upstream: Upstream, path: str, headers: Mapping[str, str], body: Mapping[str, Any], undo: Undo | None
    ) -> Any:
        """The JSON that a server answers.

        Raises:
            GatewayError: for anything else than an answer.
        """
        async with self._request("POST", upstream, path, headers, body, undo) as response:
            return await self._json(response, upstream)

    @asynccontextmanager
    async def events(
        self, upstream: Upstream, path: str, headers: Mapping[str, str], body: Mapping[str, Any], undo: Undo
    ) -> AsyncIterator[AsyncIterator[str]]:
        """The data of the events that a server answers with, once it has begun to.

        Raises:
            GatewayError: for anything else than events, and for a stream that breaks off or stalls.
        """
        async with self._request("POST", upstream, path, headers, body, undo) as response:
            kind = response.headers.get("content-type", "")
            if not kind.startswith("text/event-stream"):
                raise upstream_failed("bad_answer", f"the upstream server gave {kind!r} where a stream was asked for.")
            yield read_events(response.aiter_bytes(), self._largest)

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        upstream: Upstream,
        path: str,
        headers: Mapping[str, str],
        body: Mapping[str, Any] | None,
        undo: Undo | None,
    ) -> AsyncIterator[httpx.Response]:
        sent = {name: headers[name] for name in _PASSED_ON if name in headers}
        if upstream.api_key_env is not None:
            sent = {name: value for name, value in sent.items() if "key" not in name}
            sent["authorization"] = f"Bearer {os.environ[upstream.api_key_env]}"
        sent |= {"accept-encoding": "identity", "content-type": "application/json"}
        content = None if body is None else dumps(body)
        try:
            response = await self._send(method, upstream.url + path, sent, content)
            try:
                if response.status_code != 200:
                    raise await self._status_error(response, upstream, undo)
                yield response
            finally:
                await response.aclose()
        except httpx.ConnectTimeout as error:
            raise upstream_failed(
                "upstream_unreachable", _about(upstream, "could not be reached in time"), 504
            ) from error
        except httpx.TimeoutException as error:
            raise upstream_failed("upstream_stalled", _about(upstream, "stalled"), 504) from error
        except httpx.ConnectError as error:
            raise upstream_failed("upstream_unreachable", _about(upstream, "could not be reached")) from error
        except httpx.HTTPError as error:
            raise upstream_failed("upstream_broken", _about(upstream, "broke off its answer")) from error
        except ValueError as error:
            raise malformed("a stream with a broken event") from error

    async def _send(self, method: str, url: str, headers: dict[str, str], content: bytes | None) -> httpx.Response:
        """The response once its head is there. A server may close a connection that was idle just as it is used again.

        So what breaks before an answer has begun is sent once more. Nothing was drawn anew, so the law is the same.
        """
        request = self._client.build_request(method, url, headers=headers, content=content)
        try:
            return await self._client.send(request, stream=True)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            return await self._client.send(request, stream=True)

    async def _json(self, response: httpx.Response, upstream: Upstream) -> Any:
        content = await self._read(response)
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise malformed("what is not JSON") from error

    async def _read(self, response: httpx.Response) -> bytes:
        content = bytearray()
        async for piece in response.aiter_bytes():
            content += piece
            if len(content) > self._largest:
                raise malformed(f"more than {self._config.max_answer_mb:g} MB")
        return bytes(content)

    async def _status_error(self, response: httpx.Response, upstream: Upstream, undo: Undo | None) -> GatewayError:
        status = response.status_code
        if status < 400:
            return malformed(f"the status {status}")
        headers = {name: response.headers[name] for name in _PASSED_BACK if name in response.headers}
        if upstream.api_key_env is not None and status in (401, 403):  # the text may quote the operator's key
            return upstream_failed("upstream_key", _about(upstream, "does not accept the gateway's key"))
        try:
            data = json.loads(await self._read(response))
        except (ValueError, RecursionError):
            data = None
        return error_of(data, undo, status, headers)


def error_of(data: Any, undo: Undo | None, status: int, headers: Mapping[str, str] | None = None) -> GatewayError:
    """The upstream's own error, its message swapped back as it may quote the request.

    Args:
        data: what the upstream sent.
        undo: how to swap back.
        status: the HTTP status.
        headers: to pass on.
    """
    error = data.get("error", data) if isinstance(data, dict) else None
    fields = error if isinstance(error, dict) else {}
    message = error if isinstance(error, str) else fields.get("message", fields.get("detail"))

    def back(text: Any) -> Any:
        return undo.name(text) if undo and isinstance(text, str) else text if isinstance(text, str) else None

    return GatewayError(
        status,
        back(message) or f"The upstream server answered with the status {status}.",
        kind=back(fields.get("type")) or "upstream_error",
        code=back(fields.get("code")) or "upstream_status",
        param=back(fields.get("param")),
        headers=headers,
        upstream=str(status),
    )


def _about(upstream: Upstream, what: str) -> str:
    return f"the upstream server {urlsplit(upstream.url).netloc} {what}."
