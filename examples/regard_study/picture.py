"""A picture of a report's page with its parts numbered, as in ``docs/howto/report.md``.

python examples/regard_study/picture.py study/index.html report.png
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "app"))
from browser import chromium

# The parts of the page, in the order of their numbers.
PARTS = (".headline", ".verdict", "#changed", "#cost", "#not-covered", ".rule", "#chart h2", ".chart .row")

_NUMBER = """([selector, number]) => {
    const place = document.querySelector(selector).getBoundingClientRect();
    const sign = document.createElement("div");
    sign.textContent = number;
    sign.style = `position: absolute; left: ${place.left + scrollX - 40}px; top: ${place.top + scrollY - 2}px;
        width: 28px; height: 28px; border-radius: 14px; background: #1d2126; color: #fff;
        font: bold 15px/28px sans-serif; text-align: center`;
    document.body.append(sign);
}"""


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, help="the page of a report")
    parser.add_argument("output", type=Path, help="the picture to write, a PNG file")
    parser.add_argument("--width", type=int, default=1280, help="width of the picture, in pixels")
    parser.add_argument("--height", type=int, default=1000, help="height of the picture, in pixels")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as profile,
        chromium(Path(profile), arguments.width, arguments.height) as page,
    ):
        page.goto(arguments.page.resolve().as_uri())
        for number, selector in enumerate(PARTS, 1):
            page.evaluate(_NUMBER, [selector, number])
        page.screenshot(path=arguments.output)


if __name__ == "__main__":
    main()
