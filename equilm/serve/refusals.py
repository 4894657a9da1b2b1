"""What the gateway answers when it gives no answer: errors in the form of the OpenAI protocol."""

from collections.abc import Mapping
from typing import Any


class GatewayError(Exception):
    """An error for the client: never a plain answer.

    Args:
        status: the HTTP status.
        message: what was found, what was expected, the remedy.
        kind: the protocol's ``type``.
        code: a short name of the reason.
        param: the field of the request.
        headers: of the response.
        upstream: what the metrics count as the kind of an upstream server's failure; empty: the gateway refused.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str = "refused",
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        upstream: str = "",
    ):
        super().__init__(message)
        self.status, self.message, self.kind, self.code, self.param = status, message, kind, code, param
        self.headers, self.upstream = dict(headers or {}), upstream

    def body(self) -> dict[str, Any]:
        """The error as the protocol writes it."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


def refused(param: str, message: str) -> GatewayError:
    """A setting under which fairness would not hold."""
    return GatewayError(400, f"equilm serve: {message}", code="refused", param=param)


def invalid(param: str | None, message: str) -> GatewayError:
    """A request that is no request of the protocol."""
    return GatewayError(400, f"equilm serve: {message}", code="invalid_request", param=param)


def upstream_failed(code: str, message: str, status: int = 502) -> GatewayError:
    """The upstream server did not answer as it should."""
    return GatewayError(status, f"equilm serve: {message}", kind="upstream_error", code=code, upstream=code)
