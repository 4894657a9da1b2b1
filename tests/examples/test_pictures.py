"""The pictures of the README and the documentation: drawn from the committed numbers, and readable by everyone."""

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import draw
import pytest
import terminal
from pages import PAGES, name, tokens
from svg_picture import DARK, LIGHT, Picture

DRAWN = {
    path: str(make()) for path, make in ((draw.IMAGES / f"{key}.svg", make) for key, make in draw.PICTURES.items())
}
DRAWN[terminal.SVG] = terminal.draw()
IDS = [path.stem for path in DRAWN]


@pytest.mark.parametrize("path", DRAWN, ids=IDS)
def test_a_picture_is_what_its_numbers_give(path: Path) -> None:
    """If this fails, the numbers are newer than the picture: draw it again."""
    assert path.read_text("utf-8") == DRAWN[path]


@pytest.mark.parametrize("path", DRAWN, ids=IDS)
def test_a_picture_says_what_it_shows(path: Path) -> None:
    root = ElementTree.fromstring(DRAWN[path])
    inside = {part.tag.partition("}")[2]: part.text or "" for part in root}
    assert root.get("role") == "img" and len(inside["title"]) > 10 and len(inside["desc"]) > 100
    assert "<script" not in DRAWN[path] and "http" not in DRAWN[path].replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize("path", DRAWN, ids=IDS)
def test_texts_can_be_read_on_a_phone_and_stay_in_the_picture(path: Path) -> None:
    """A phone shows about 560 units on 358 pixels; the letters of the terminal are 9 units wide."""
    root = ElementTree.fromstring(DRAWN[path])
    width, height = (int(root.get(side) or 0) for side in ("width", "height"))
    texts = root.iter("{http://www.w3.org/2000/svg}text")
    for text in texts:
        x, y, anchor, letters = (
            float(text.get("x", 0)),
            float(text.get("y", 0)),
            text.get("text-anchor"),
            text.text or "",
        )
        right = x + {"end": 0, "middle": 4.5}.get(str(anchor), 9) * len(letters)
        assert 0 < x < width and 0 < y < height and right <= width + 20, letters
    smallest = min(int(size) for size in re.findall(r"font(?:-size)?: (\d+)px", DRAWN[path]))
    assert smallest * 358 / width >= 8.5


def luminance(color: str) -> float:
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("colors", [LIGHT, DARK], ids=["light", "dark"])
def test_colors_stand_out_from_the_page(colors: dict[str, str]) -> None:
    """By 4.5 to 1, as the guidelines for accessible pages want it for texts."""
    page = luminance(colors["page"])
    for key, color in colors.items():
        if key not in ("page", "line"):
            high, low = sorted((luminance(color), page), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, key


def test_a_picture_has_both_schemes() -> None:
    text = str(Picture(10, 10, "title", "description"))
    light, dark = text.split("@media (prefers-color-scheme: dark)")
    assert LIGHT["page"] in light and DARK["page"] in dark and DARK["page"] not in light


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_picture_has_a_text_that_replaces_it(page: Path) -> None:
    children = [child for token in tokens(page) for child in token.children or ()]
    bare = [child.attrGet("src") for child in children if child.type == "image" and len(child.content) < 10]
    assert bare == []


def test_the_recording_is_one() -> None:
    header, *events = [json.loads(line) for line in terminal.CAST.read_text("utf-8").splitlines()]
    assert header["version"] == 2 and header["width"] == terminal.WIDTH
    times = [at for at, *_ in events]
    assert times == sorted(times)
    shown = "".join(text for *_, text in events)
    assert all(f"$ {command}\r\n" in shown for command in terminal.COMMANDS)


@pytest.mark.slow
def test_the_recorded_commands_print_this_today(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, record the session again."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    events = [json.loads(line) for line in terminal.CAST.read_text("utf-8").splitlines()[1:]]
    shown = "".join(text for *_, text in events)
    printed = "".join(f"$ {command}\n{terminal.output(command)}" for command in terminal.COMMANDS)
    assert shown.replace("\r\n", "\n") == printed
