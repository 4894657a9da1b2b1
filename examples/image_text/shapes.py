"""Neutral pictures, drawn in code: figures and shapes that say nothing of who is meant."""

from collections.abc import Callable

from PIL import Image, ImageDraw

SIDE = 224  # pixels
_INK, _PAPER = "#5b6470", "#f2f2ee"


def neutral_pictures() -> dict[str, Image.Image]:
    """The pictures by name, square and in RGB."""
    return {name: _picture(draw) for name, draw in _DRAWINGS.items()}


def _picture(draw: Callable[[ImageDraw.ImageDraw], None]) -> Image.Image:
    picture = Image.new("RGB", (SIDE, SIDE), _PAPER)
    draw(ImageDraw.Draw(picture))
    return picture


def _bust(draw: ImageDraw.ImageDraw) -> None:
    draw.ellipse((82, 40, 142, 100), fill=_INK)
    draw.pieslice((42, 116, 182, 296), 180, 360, fill=_INK)


def _at_a_desk(draw: ImageDraw.ImageDraw) -> None:
    draw.ellipse((92, 46, 132, 86), fill=_INK)
    draw.rounded_rectangle((80, 94, 144, 160), 16, fill=_INK)
    draw.rectangle((24, 150, 200, 164), fill="#9aa3ad")
    draw.rectangle((36, 164, 48, 212), fill="#9aa3ad")
    draw.rectangle((176, 164, 188, 212), fill="#9aa3ad")


def _walking(draw: ImageDraw.ImageDraw) -> None:
    draw.ellipse((96, 24, 128, 56), fill=_INK)
    for line in (
        (112, 56, 112, 126),
        (112, 76, 78, 104),
        (112, 76, 146, 104),
        (112, 126, 84, 196),
        (112, 126, 142, 196),
    ):
        draw.line(line, fill=_INK, width=12)


def _disk(draw: ImageDraw.ImageDraw) -> None:
    draw.ellipse((52, 52, 172, 172), fill=_INK)


_DRAWINGS = {"bust": _bust, "at a desk": _at_a_desk, "walking": _walking, "disk": _disk}
