"""Server-sent events: read from a stream of bytes that is cut anywhere, and written."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

_LINE_END = re.compile(rb"\r\n|\n|\r")


class EventReader:
    """Takes bytes as they come and gives the data of each event that is complete.

    Args:
        largest: how many bytes an event may have.
    """

    def __init__(self, largest: int):
        self._largest = largest
        self._bytes = bytearray()
        self._scanned = 0
        self._lines: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> Iterator[str]:
        """The data of each event that ends in this piece.

        Raises:
            ValueError: for an event that is too large, or not UTF-8.
        """
        self._bytes += piece
        while (line := self._next_line()) is not None:
            if line.startswith(b"data:"):
                self._size += len(line)
                self._lines.append(line[5:].removeprefix(b" "))
            elif not line and self._lines:
                data = b"\n".join(self._lines)
                self._lines, self._size = [], 0
                yield data.decode("utf-8")
        if len(self._bytes) + self._size > self._largest:
            raise ValueError("an event is too large")

    @property
    def unfinished(self) -> bool:
        """Whether the bytes so far end inside an event."""
        return bool(self._bytes.strip() or self._lines)

    def _next_line(self) -> bytes | None:
        end = _LINE_END.search(self._bytes, self._scanned)
        # Whether a \r at the very end is a whole line ending, the next byte tells.
        if end is None or (end[0] == b"\r" and end.end() == len(self._bytes)):
            self._scanned = max(0, len(self._bytes) - 1)
            return None
        line = bytes(self._bytes[: end.start()])
        del self._bytes[: end.end()]
        self._scanned = 0
        return line


async def read_events(pieces: AsyncIterator[bytes], largest: int) -> AsyncIterator[str]:
    """The data of each event of a stream.

    Raises:
        ValueError: for an event that is too large, not UTF-8, or cut off by the end of the stream.
    """
    reader = EventReader(largest)
    async for piece in pieces:
        for data in reader.feed(piece):
            yield data
    if reader.unfinished:
        for data in reader.feed(b"\n\n"):
            if data.strip() != "[DONE]":  # some servers leave out the last empty line
                raise ValueError("the stream ended inside an event")
            yield data


def write_event(data: Any) -> bytes:
    """One event, its data as JSON."""
    return b"data: " + dumps(data) + b"\n\n"


DONE = b"data: [DONE]\n\n"


def dumps(data: Any) -> bytes:
    """JSON as UTF-8; where a string holds half a character, which UTF-8 cannot, as ASCII with escapes."""
    try:
        return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(data, separators=(",", ":")).encode("ascii")
