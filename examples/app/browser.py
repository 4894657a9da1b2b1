"""The app started as a process of its own, and Debian's Chromium without a window looking at it."""

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Page, sync_playwright

CHROMIUM = shutil.which("chromium")
STARTUP_S = 300

_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def served(script: Path, port: int, *arguments: str) -> Iterator[str]:
    """The address of an app that runs inside the context.

    Args:
        script: its app.py.
        port: a free port.
        arguments: for the script.

    Raises:
        RuntimeError: if it ends or does not answer in time; the message holds what it printed.
    """
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


@contextmanager
def chromium(profile: Path, width: int = 1280, height: int = 900) -> Iterator[Page]:
    """An empty page of a new Chromium.

    Args:
        profile: an empty folder.
        width: of the window, in pixels.
        height: of the window.
    """
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, args=_FLAGS, viewport={"width": width, "height": height}
        )
        try:
            yield context.pages[0]
        finally:
            context.close()
