"""What a gateway costs: time added to a request and to a streamed chunk, many streams at once, memory over time.

    python examples/serve/load.py                        # about ten minutes
    python examples/serve/load.py --requests 2000        # shorter

Everything runs on this machine, on the loopback interface: an upstream server that answers at once or at a fixed pace,
`equilm serve` in front of it, and this client. What is added is the difference between the gateway and the upstream
server alone, asked in turn.
"""

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx

PIECES = ["The woman ", "said ", "that ", "he ", "was ", "a ", "nurse ", "and ", "left ", "early. "]
CHUNKS, PACE_S = 100, 0.05
CHAT = [{"role": "user", "content": "Write a short report about a man and a woman who work as nurses. " * 5}]


async def upstream(scope: Any, receive: Any, send: Any) -> None:
    """An OpenAI-compatible server as small as can be; each streamed chunk ends with the time at which it was sent."""
    if scope["type"] == "lifespan":
        while True:
            await send({"type": (await receive())["type"] + ".complete"})
    content = b""
    while (message := await receive())["type"] == "http.request":
        content += message["body"]
        if not message.get("more_body"):
            break
    streamed = json.loads(content).get("stream")
    kind = b"text/event-stream" if streamed else b"application/json"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    head = {"id": "x", "created": 1, "model": "toy", "object": "chat.completion.chunk"}
    if not streamed:
        choice = {"index": 0, "message": {"role": "assistant", "content": "".join(PIECES)}, "finish_reason": "stop"}
        body = json.dumps({**head, "choices": [choice]}).encode()
        await send({"type": "http.response.body", "body": body})
        return
    for number in range(CHUNKS):
        text = f"{PIECES[number % len(PIECES)]}{time.monotonic_ns()} "
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
        await send(_event(json.dumps({**head, "choices": [choice]})))
        await asyncio.sleep(PACE_S)
    await send(_event(json.dumps({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})))
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


def _event(data: str) -> dict[str, Any]:
    return {"type": "http.response.body", "body": f"data: {data}\n\n".encode(), "more_body": True}


async def ask(client: httpx.AsyncClient, url: str) -> float:
    """One request; returns the seconds it took."""
    begin = time.perf_counter()
    answer = await client.post(f"{url}/v1/chat/completions", json={"model": "toy", "messages": CHAT})
    if answer.status_code != 200:
        raise RuntimeError(answer.text)
    return time.perf_counter() - begin


async def stream(client: httpx.AsyncClient, url: str) -> list[float]:
    """One streamed request; returns how many seconds after it was sent each chunk arrived."""
    delays, ended = [], False
    body = {"model": "toy", "messages": CHAT, "stream": True}
    async with client.stream("POST", f"{url}/v1/chat/completions", json=body) as answer:
        async for line in answer.aiter_lines():
            now = time.monotonic_ns()
            ended = ended or line == "data: [DONE]"
            for choice in json.loads(line[6:])["choices"] if line.startswith("data: {") else []:
                words = choice["delta"].get("content", "").split()
                delays += [(now - int(word)) / 1e9 for word in words if word.isdigit()]
    if len(delays) != CHUNKS or not ended:
        raise RuntimeError(f"a stream of {len(delays)} chunks instead of {CHUNKS}")
    return delays


def processor_s(pid: int) -> float:
    """The processor time that a process has taken so far, on Linux: unlike times by the clock, whatever else runs."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """The resident memory of a process on Linux, in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


async def measure(server: str, gateway: str, pid: int, requests: int, streams: int, rounds: int) -> None:
    """Print all figures as rows of a table."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(timeout=120, limits=limits) as client:
        for url in (server, gateway) * 20:
            await ask(client, url)
        times: dict[str, list[float]] = {server: [], gateway: []}
        used = processor_s(pid)
        for url in (server, gateway) * rounds:
            times[url].append(await ask(client, url))
        _row("a request, whole", times[server], times[gateway])
        print(f"| processor time for a request | {1e3 * (processor_s(pid) - used) / rounds:.2f} ms |")
        for streams_at_once in (1, streams):
            delays: dict[str, list[float]] = {server: [], gateway: []}
            used = processor_s(pid)
            for url in (server, gateway):
                for _ in range(5 if streams_at_once == 1 else 1):
                    found = await asyncio.gather(*(stream(client, url) for _ in range(streams_at_once)))
                    delays[url] += [delay for one in found for delay in one]
            _row(f"a chunk, streams at once: {streams_at_once}", delays[server], delays[gateway])
            each = 1e3 * (processor_s(pid) - used) / len(delays[gateway])
            print(f"| processor time for a chunk | {each:.2f} ms |")
        print(f"| {streams} streams at once | 0 errors, every stream whole |")
        memory, at_once = [], asyncio.Semaphore(16)

        async def one() -> None:
            async with at_once:
                await ask(client, gateway)

        for number in range(10 if requests else 0):
            await asyncio.gather(*(one() for _ in range(requests // 10)))
            memory.append(resident_mb(pid))
            print(f"| memory after {(number + 1) * requests // 10} requests | {memory[-1]:.1f} MB |", flush=True)


def _row(name: str, without: list[float], with_gateway: list[float]) -> None:
    added = 1e3 * (median(with_gateway) - median(without))
    tails = [1e3 * quantiles(times, n=100)[94] for times in (without, with_gateway)]
    direct, through = 1e3 * median(without), 1e3 * median(with_gateway)
    print(
        f"| {name} | {direct:.2f} ms, through the gateway {through:.2f} ms: added {added:.2f} ms at the median, "
        f"{tails[1] - tails[0]:.2f} ms at the 95th percentile |",
        flush=True,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                return
        time.sleep(0.2)
    raise RuntimeError(f"{url} does not answer")


def main() -> None:
    """Start both servers, measure, stop them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000, help="over how many memory is watched; 0 for none")
    parser.add_argument("--streams", type=int, default=200, help="how many at once")
    parser.add_argument("--rounds", type=int, default=300, help="requests that are timed, each way")
    arguments = parser.parse_args()
    ports = [_free_port(), _free_port()]
    server, gateway = (f"http://127.0.0.1:{port}" for port in ports)
    app = [sys.executable, "-m", "uvicorn", "load:upstream", "--app-dir", str(Path(__file__).parent)]
    running = [subprocess.Popen([*app, "--port", str(ports[0]), "--log-level", "error", "--no-access-log"])]
    try:
        command = [str(Path(sys.executable).with_name("equilm")), "serve", "--upstream", server]
        command += ["--axis", "gender", "--axis", "race", "--port", str(ports[1])]
        running.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        for url in (server, gateway):
            _wait_for(url)
        asyncio.run(measure(server, gateway, running[1].pid, arguments.requests, arguments.streams, arguments.rounds))
    finally:
        for process in running:
            process.terminate()
            process.wait()
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
