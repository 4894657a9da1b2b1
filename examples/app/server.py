"""Starting a page in its own process, as a user or a Space does."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

STARTUP_S = 300  # a busy machine needs as long to import gradio and load a model


def _free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def served(script: Path, *arguments: str) -> Iterator[str]:
    """The address of an app that runs inside the context.

    Args:
        script: its app.py.
        arguments: the arguments of the script.

    Raises:
        RuntimeError: if it ends or does not answer in time; the message contains its output.
    """
    port = _free_port()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "GRADIO_SERVER_PORT": str(port)}
    with TemporaryDirectory() as folder:
        log = Path(folder) / "log.txt"
        with log.open("w") as output:
            server = subprocess.Popen(
                [sys.executable, script, *arguments], stdout=output, stderr=output, env=environment, cwd=folder
            )
        url = f"http://127.0.0.1:{port}/"
        try:
            _wait_for(url, server, log)
            yield url
        finally:
            server.terminate()
            server.wait()


def _wait_for(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + STARTUP_S
    while not _answers(url):
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"No answer at {url}. The app printed:\n{log.read_text()}")
        time.sleep(0.2)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url):
            return True
    except urllib.error.URLError:
        return False
