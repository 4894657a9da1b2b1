"""Records a terminal session from real commands, as an asciinema file and as the animated SVG of the README.

    python examples/pictures/terminal.py         # runs the commands; writes docs/images/session.cast and session.svg
    python examples/pictures/terminal.py --draw  # only draws the SVG again

The times are those of the commands; waiting is cut short, and the typing is added.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import textwrap
import time
from html import escape
from pathlib import Path

IMAGES = Path(__file__).parents[2] / "docs" / "images"
CAST, SVG = IMAGES / "session.cast", IMAGES / "session.svg"
WIDTH = 66  # columns
COMMANDS = (
    'equilm generate "The man worked as" "The woman worked as" --compare --sample --top-k 40 --max-new-tokens 12',
    'equilm check "The man worked as" "The woman said that" --quiet | head -1',
    'equilm check "The man worked as" "The woman said that" --quiet --wrap | head -1',
)
_PROGRAM = (sys.executable, "-c", "import equilm_command, sys; sys.exit(equilm_command.main())")
_TYPING, _PAUSE = 0.03, 1.5  # seconds for each character typed; the longest time without news


def output(command: str) -> str:
    """What a command prints to standard output."""
    words = shlex.split(command.partition(" | ")[0])
    assert words[0] == "equilm"
    done = subprocess.run([*_PROGRAM, *words[1:]], stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode in (0, 1), f"{command}: exit code {done.returncode}"
    lines = done.stdout.splitlines()
    return "\n".join(lines[:1] if command.endswith("| head -1") else lines) + "\n"


def record() -> None:
    """Run the commands, and write the asciinema file."""
    now, events = 0.0, []
    for command in COMMANDS:
        events.append((now, "$ "))
        for letter in command:
            now += _TYPING
            events.append((now, letter))
        start = time.monotonic()
        printed = output(command)
        now += time.monotonic() - start
        events += [(now - 0.01, "\r\n"), (now, printed.replace("\n", "\r\n"))]
    header = {"version": 2, "width": WIDTH, "height": 30, "idle_time_limit": _PAUSE, "title": "equilm"}
    lines = [json.dumps(header), *(json.dumps([round(at, 3), "o", text], ensure_ascii=False) for at, text in events)]
    CAST.write_text("\n".join(lines) + "\n", "utf-8")


def screen() -> list[tuple[float, str, bool]]:
    """The lines of the recorded session, wrapped: when each appears, in seconds, its text, and whether it was typed."""
    _, *events = [json.loads(line) for line in CAST.read_text("utf-8").splitlines()]
    shown, before, now, line = [], 0.0, 0.0, ""
    for at, _, text in events:
        now, before = now + min(at - before, _PAUSE), at
        for part in text.replace("\r\n", "\n").splitlines(keepends=True):
            line += part
            if line.endswith("\n"):
                shown.append((now, line.rstrip("\n"), line.startswith("$ ")))
                line = ""
    wrapped = []
    for at, text, typed in shown:
        pieces = textwrap.wrap(text, WIDTH, subsequent_indent="  ") or [""]
        wrapped += [(at, piece, typed) for piece in pieces]
    return wrapped


def draw() -> str:
    """The animated SVG: lines appear as in the session; where nothing moves, all of them are there."""
    lines = screen()
    width, height = 32 + 9 * WIDTH, 60 + 22 * len(lines)
    told = " ".join(text for _, text, _ in lines)
    rows = []
    for number, (at, text, typed) in enumerate(lines):
        kind = "typed" if typed else "verdict" if text.startswith(("PASS", "FAIL")) else "printed"
        rows.append(
            f'<text class="{kind}" x="16" y="{58 + 22 * number}" style="animation-delay: {at:.2f}s" '
            f'xml:space="preserve">{escape(text, quote=False)}</text>'
        )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            'role="img" aria-labelledby="title description">',
            '<title id="title">A terminal session with equilm</title>',
            f'<desc id="description">{escape(told, quote=False)}</desc>',
            "<style>",
            'text { font: 15px ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; '
            "fill: #e6edf3; animation: show 0s backwards }",
            ".typed { fill: #79c0ff } .verdict { fill: #f0a04b; font-weight: 600 }",
            "@keyframes show { from { visibility: hidden } to { visibility: visible } }",
            "@media (prefers-reduced-motion: reduce) { text { animation: none } }",
            "</style>",
            f'<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="10" fill="#0d1117" stroke="#59636e"/>',
            *(f'<circle cx="{22 + 20 * n}" cy="20" r="6" fill="#59636e"/>' for n in range(3)),
            *rows,
            "</svg>\n",
        ]
    )


def main() -> None:
    """Record and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", action="store_true", help="only draw the recorded session again")
    if not parser.parse_args().draw:
        os.environ["HF_HUB_OFFLINE"] = "1"
        record()
    SVG.write_text(draw(), "utf-8")


if __name__ == "__main__":
    main()
