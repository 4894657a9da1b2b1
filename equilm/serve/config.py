"""What an operator sets at start: axes, upstream servers by model name, limits; from options or from a JSON file."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import EquiLMError
from ..words.axes import AxisLike


@dataclass(frozen=True)
class Upstream:
    """A server that generates.

    Args:
        url: its base URL, such as ``http://127.0.0.1:8000/v1``; without a path, ``/v1`` is added.
        models: the names of the models to ask it for; none: all that no other upstream names.
        api_key_env: the environment variable that holds its key; by default the client's key is passed on.
    """

    url: str
    models: tuple[str, ...] = ()
    api_key_env: str | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url) if isinstance(self.url, str) else None
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise EquiLMError(
                f"upstream {self.url!r} is no base URL: expected something like http://127.0.0.1:8000/v1. Correct it."
            )
        if parts.username or parts.password:
            raise EquiLMError(
                f"The URL of the upstream {parts.hostname} holds a name or password, which would end up in logs. "
                "Put the key into an environment variable, and its name into api_key_env."
            )
        if self.api_key_env is not None and not os.environ.get(self.api_key_env):
            raise EquiLMError(
                f"The environment variable {self.api_key_env!r}, the key of {self.url}, is not set. "
                "Set it, or leave api_key_env out to pass on the client's key."
            )
        path = parts.path.rstrip("/") or "/v1"
        object.__setattr__(self, "url", f"{parts.scheme}://{parts.netloc}{path}")
        object.__setattr__(self, "models", tuple(self.models))


@dataclass(frozen=True)
class GatewayConfig:
    """All settings of a gateway.

    Args:
        upstreams: the servers.
        axes: axes that are always on: names, paths or objects.
        allowed_axes: further axes that a request may turn on by the header ``X-Equilm-Axes``.
        pronouns: as in `TextAction`, or null.
        connect_timeout: seconds for a connection to an upstream.
        stall_timeout: seconds without a byte from an upstream before it counts as stalled.
        total_timeout: seconds for a whole request.
        max_body_mb: the largest request, in MB of 10⁶ bytes.
        max_answer_mb: the largest answer of an upstream that is not a stream, and the largest event of one that is.
        max_generations: how many generations may run at once; a request takes as many as it has prompts times choices.
        max_choices: the largest n.
        log_text: write prompts and answers to the log.
        proxy: the URL of an HTTP proxy for the upstreams; the environment's proxy settings are not used.
    """

    upstreams: tuple[Upstream, ...]
    axes: tuple[AxisLike, ...] = ()
    allowed_axes: tuple[AxisLike, ...] = ()
    pronouns: str | None = "rules"
    connect_timeout: float = 10.0
    stall_timeout: float = 120.0
    total_timeout: float = 1800.0
    max_body_mb: float = 32.0
    max_answer_mb: float = 64.0
    max_generations: int = 512
    max_choices: int = 128
    log_text: bool = False
    proxy: str | None = None

    def __post_init__(self) -> None:
        for name in ("upstreams", "axes", "allowed_axes"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.upstreams:
            raise EquiLMError("No upstream given: expected the base URL of at least one server. Pass --upstream URL.")
        if not self.axes and not self.allowed_axes:
            raise EquiLMError("No axis given: the gateway would change nothing. Pass --axis gender, for example.")
        for name in ("connect_timeout", "stall_timeout", "total_timeout", "max_body_mb", "max_answer_mb"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise EquiLMError(f"{name} is {value!r}: expected a number above 0.")
        for name in ("max_generations", "max_choices"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise EquiLMError(f"{name} is {value!r}: expected an integer of at least 1.")
        self._check_models()

    def _check_models(self) -> None:
        named: dict[str, str] = {}
        for upstream in self.upstreams:
            for model in upstream.models or ("",):
                if (other := named.setdefault(model, upstream.url)) != upstream.url:
                    what = f"the model {model!r}" if model else "all models that no other names"
                    raise EquiLMError(f"{other} and {upstream.url} both serve {what}: name the models of one of them.")

    @classmethod
    def load(cls, path: Path, **options: Any) -> "GatewayConfig":
        """The settings of a JSON file, with some replaced.

        Args:
            path: the file: an object with the arguments of this class as keys. An upstream is an object with the
                arguments of `Upstream`. Paths of axes start at the file's folder.
            options: what replaces the file's settings.

        Raises:
            EquiLMError: for a file that is no such object.
        """
        try:
            data = json.loads(path.read_text("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise EquiLMError(
                f"{path} is not JSON ({error}). Expected an object with the gateway's settings."
            ) from error
        data = _checked(data, cls, str(path))
        upstreams = data.get("upstreams", [])
        if not isinstance(upstreams, list):
            raise EquiLMError(f"{path}: upstreams is {upstreams!r}: expected a list of objects with a url each.")
        data["upstreams"] = [Upstream(**_checked(one, Upstream, f"{path}: upstreams")) for one in upstreams]
        for name in ("axes", "allowed_axes"):
            axes = data.get(name, [])
            if not isinstance(axes, list) or not all(isinstance(axis, str) for axis in axes):
                raise EquiLMError(f"{path}: {name} is {axes!r}: expected a list of names or paths.")
            data[name] = [_beside(path, axis) for axis in axes]
        return cls(**{**data, **options})


def _checked(data: Any, kind: type, where: str) -> dict[str, Any]:
    names = [field.name for field in fields(kind)]
    if not isinstance(data, dict):
        raise EquiLMError(f"{where}: expected an object with keys such as {', '.join(names[:3])}, got {data!r}.")
    if unknown := [key for key in data if key not in names]:
        raise EquiLMError(
            f"{where}: unknown key {unknown[0]!r}: expected only {', '.join(names)}. Correct or remove it."
        )
    return data


def _beside(path: Path, axis: str) -> str:
    file = path.parent / axis
    return str(file) if file.is_file() else axis


def header_axes(header: str | None) -> Sequence[str]:
    """The names in a header of axes."""
    return [name.strip() for name in (header or "").split(",") if name.strip()]
