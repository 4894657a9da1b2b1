"""A small SVG picture that is readable on light and dark pages: texts, bars and lines in named colors, and a title."""

from html import escape

FONT = '-apple-system, "Segoe UI", Helvetica, Arial, "Liberation Sans", sans-serif'
# The colors of Okabe and Ito, which the color-blind can tell apart; lighter ones on a dark page.
LIGHT = {"text": "#1f2328", "quiet": "#59636e", "page": "#ffffff", "line": "#d1d9e0"}
DARK = {"text": "#f0f6fc", "quiet": "#9198a1", "page": "#0d1117", "line": "#3d444d"}
LIGHT |= {"a": "#0072b2", "b": "#c04f00", "c": "#00775a", "d": "#8a4b7d"}
DARK |= {"a": "#56b4e9", "b": "#f0a04b", "c": "#2fc39a", "d": "#d9a3cc"}


class Picture:
    """An SVG picture.

    Args:
        width: in units, of which a phone shows about 560.
        height: in the same units.
        title: what the picture is, in a few words.
        description: what it shows, for those who do not see it.
    """

    def __init__(self, width: int, height: int, title: str, description: str):
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            'role="img" aria-labelledby="title description">',
            f'<title id="title">{escape(title)}</title>',
            f'<desc id="description">{escape(description)}</desc>',
            "<style>",
            f"text {{ font: 16px {FONT} }}",
            ".bold { font-weight: 600 } .small { font-size: 14px }",
            *_rules(LIGHT),
            "@media (prefers-color-scheme: dark) {",
            *_rules(DARK),
            "}",
            "</style>",
            f'<rect class="page" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="10"/>',
        ]

    def text(self, x: float, y: float, text: str, classes: str = "text", anchor: str = "start") -> None:
        """Write a text; ``y`` is its base line."""
        self.parts.append(
            f'<text class="{classes}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text, quote=False)}</text>'
        )

    def bar(self, x: float, y: float, width: float, height: float, color: str) -> None:
        """Draw a filled bar."""
        self.parts.append(
            f'<rect class="{color}" x="{x:g}" y="{y:g}" width="{max(width, 1):.1f}" height="{height:g}" rx="2"/>'
        )

    def line(self, points: list[tuple[float, float]], color: str = "line", width: float = 1) -> None:
        """Draw a line through points."""
        path = "M" + " ".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self.parts.append(f'<path class="{color}-line" d="{path}" stroke-width="{width:g}"/>')

    def mark(self, x: float, y: float, color: str, shape: int) -> None:
        """Draw a marker; each shape is another, so that color is not all that tells them apart."""
        r = 5.5
        corners = ([(-r, -r), (r, -r), (r, r), (-r, r)], [(0, -r - 1.5), (r + 1.5, 0), (0, r + 1.5), (-r - 1.5, 0)],
                   [(0, -r - 1), (r + 1, r), (-r - 1, r)])  # fmt: skip
        if shape == 0:
            self.parts.append(f'<circle class="{color}" cx="{x:.1f}" cy="{y:.1f}" r="{r}"/>')
        else:
            points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners[shape - 1])
            self.parts.append(f'<polygon class="{color}" points="{points}"/>')

    def __str__(self) -> str:
        return "\n".join([*self.parts, "</svg>"]) + "\n"


def _rules(colors: dict[str, str]) -> list[str]:
    filled = [f".{name} {{ fill: {color} }}" for name, color in colors.items() if name != "page"]
    lines = [f".{name}-line {{ fill: none; stroke: {color} }}" for name, color in colors.items() if name != "page"]
    return [*filled, *lines, f".page {{ fill: {colors['page']}; stroke: {colors['line']} }}"]
