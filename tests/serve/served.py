"""A toy upstream and a gateway in front of it, on this machine."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from toy_upstream import ToyUpstream

from equilm.serve import GatewayConfig, Upstream, create_app


class Served:
    """An application, served by a thread of its own.

    Attributes:
        url: its address.
        server: what serves it.
    """

    def __init__(self, app: Any):
        self._app, self._loop = app, asyncio.new_event_loop()
        settings: dict[str, Any] = {
            "log_config": None,
            "access_log": False,
            "timeout_graceful_shutdown": 1,
            "lifespan": "on",
        }
        self.server = uvicorn.Server(uvicorn.Config(app, **settings))
        self.url = ""

    @property
    def connections(self) -> int:
        """How many connections to it are open."""
        return len(self.server.server_state.connections)

    def tasks(self) -> int:
        """How many of its tasks are under way."""
        return len(asyncio.all_tasks(self._loop))

    @contextlib.contextmanager
    def running(self) -> Iterator["Served"]:
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            thread = threading.Thread(target=self._loop.run_until_complete, args=[self.server.serve([listening])])
            thread.start()
            try:
                while not self.server.started:
                    time.sleep(0.01)
                yield self
            finally:
                self.server.should_exit = True
                thread.join()
                self._loop.close()


@contextlib.contextmanager
def served(app: Any) -> Iterator[str]:
    """The address at which an application is served by a thread of its own."""
    with Served(app).running() as running:
        yield running.url


@pytest.fixture(scope="session")
def toy_server() -> Iterator[tuple[ToyUpstream, str]]:
    upstream = ToyUpstream()
    with served(upstream.app) as url:
        yield upstream, url


@pytest.fixture
def toy(toy_server: tuple[ToyUpstream, str]) -> ToyUpstream:
    toy_server[0].reset()
    return toy_server[0]


Make = Callable[..., str]


@pytest.fixture(scope="session")
def gateways(toy_server: tuple[ToyUpstream, str]) -> Iterator[Make]:
    """Starts a gateway with some settings, once for each; returns its address."""
    running: dict[str, str] = {}
    with contextlib.ExitStack() as stack:

        def make(**settings: Any) -> str:
            key = repr(settings)
            if key not in running:
                options = {"upstreams": [Upstream(toy_server[1])], "axes": ["gender"], **settings}
                running[key] = stack.enter_context(served(create_app(GatewayConfig(**options))))
            return running[key]

        yield make


@pytest.fixture
def url(gateways: Make, toy: ToyUpstream) -> str:
    return gateways(allowed_axes=["race", "race3"])
