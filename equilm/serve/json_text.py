"""The action on JSON that is written as text, such as the arguments of a tool call: it acts on the strings in it."""

import json
import re

from ..text.action import TextAction
from ..text.streaming import StreamingTextAction

_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_PLAIN = re.compile(r'[^"\\\x00-\x1f]+')
_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{4}|[^u])", re.DOTALL)
_OPEN_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")


class StreamingJsonAction:
    """``g`` on every string of a JSON text that arrives piece by piece, each one taken as a text of its own.

    What `feed` returns, and then `flush`, are together the same for every way to cut the text, and are JSON if the text
    is: strings are written with the same escapes however they came. What stands outside of strings is acted on as text,
    so that an answer that should have been JSON and is not is swapped back all the same.

    Args:
        action: the action on texts.
        g: the element that acts.

    Example:
        >>> stream = StreamingJsonAction(TextAction("gender"), 1)
        >>> stream.feed('{"who": "the wo') + stream.feed('man\\\\nHe", "n": 1}') + stream.flush()
        '{"who": "the man\\\\nShe", "n": 1}'
    """

    def __init__(self, action: TextAction, g: int):
        self._action, self._g = action, g
        self._outside = StreamingTextAction(action, g)
        self._inside: StreamingTextAction | None = None
        self._open = ""  # the beginning of an escape

    def feed(self, piece: str) -> str:
        """The next piece of the text; returns what is decided by now and was not returned before."""
        text, at, out = self._open + piece, 0, []
        self._open = ""
        while at < len(text):
            if self._inside is None:
                quote = text.find('"', at)
                end = len(text) if quote < 0 else quote
                out.append(self._outside.feed(text[at:end]))
                if quote >= 0:
                    out += self._outside.flush(), '"'
                    self._inside = StreamingTextAction(self._action, self._g)
                at = end + 1
            elif plain := _PLAIN.match(text, at):
                out.append(_escape(self._inside.feed(plain[0])))
                at = plain.end()
            elif escape := _ESCAPE.match(text, at):
                out.append(_escape(self._inside.feed(_unescape(escape[0]))))
                at = escape.end()
            elif _OPEN_ESCAPE.match(text, at):
                self._open, at = text[at:], len(text)
            else:  # the closing quote, or what no string of JSON can hold
                out += self._close(), '"' * (text[at] == '"')
                if text[at] != '"':
                    out.append(self._outside.feed(text[at]))
                at += 1
        return "".join(out)

    def flush(self) -> str:
        """The end of the text: what was held back. A string that is open stays open."""
        end = self._outside.flush() if self._inside is None else self._close()
        end += self._open
        self._open = ""
        return end

    def _close(self) -> str:
        assert self._inside is not None
        rest = _escape(self._inside.flush())
        self._inside, self._outside = None, StreamingTextAction(self._action, self._g)
        return rest


def act_on_json(action: TextAction, text: str, g: int) -> str:
    """``g`` on every string of a JSON text."""
    stream = StreamingJsonAction(action, g)
    return stream.feed(text) + stream.flush()


def is_json_structure(text: str) -> bool:
    """Whether a text is a JSON object or array."""
    if text.lstrip()[:1] not in ("{", "["):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _unescape(escape: str) -> str:
    if escape[1] == "u":
        digits = escape.removeprefix("\\u")
        return chr(int(digits, 16))
    return _ESCAPES.get(escape[1], escape)


def _escape(text: str) -> str:
    escaped = json.dumps(text, ensure_ascii=False)[1:-1]
    return re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", escaped)
