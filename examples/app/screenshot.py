"""Takes the screenshot of the demo for the documentation: `python examples/app/screenshot.py docs/images/demo.png`."""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from browser import chromium
from playwright.sync_api import Page
from server import served


def take(page: Page, url: str, path: Path, dark: bool, prompt: str, axis: str) -> None:
    """Compare one prompt and write the whole page to a PNG file."""
    page.emulate_media(color_scheme="dark" if dark else "light")
    page.goto(url)
    page.locator("#prompt textarea").fill(prompt)
    page.locator("#axis").get_by_label(axis, exact=True).check()
    page.locator("#compare").click()
    page.locator("[data-state]").wait_for(timeout=900_000)
    page.mouse.move(0, 0)
    page.screenshot(path=path, full_page=True, animations="disabled")


def main() -> None:
    """Take it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--prompt", default="The man worked as")
    parser.add_argument("--axis", default="gender")
    arguments = parser.parse_args()
    app = Path(__file__).resolve().with_name("app.py")
    with served(app) as url, TemporaryDirectory() as profile, chromium(Path(profile), arguments.width) as page:
        take(page, url, arguments.path, arguments.dark, arguments.prompt, arguments.axis)


if __name__ == "__main__":
    main()
