"""A real browser, headless, and what it complains about; what is drawn on the page, and what the page says of it."""

import math
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
NEEDS_CHROMIUM = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed (apt install chromium)")
Scheme = Literal["light", "dark"]
# A browser says so itself of each answer that is a refusal.
REFUSED = "Failed to load resource"


@contextmanager
def chromium() -> Iterator[Any]:
    """Run the browser; its tabs share what it keeps of files."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Its sandbox needs rights that root in a container has not.
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        browser = running.new_context(permissions=["clipboard-read", "clipboard-write"])
        browser.set_default_timeout(30_000)
        yield browser
        running.close()


@contextmanager
def visit(browser: Any, url: str, refused: bool = False) -> Iterator[Any]:
    """Open a page in a tab of its own; in the end nothing is in its console: no error, no breach of its policy."""
    page, said = browser.new_page(), []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    look(page, 1440, "light")
    try:
        page.goto(url)
        yield page
        assert [text for text in said if not (refused and REFUSED in text)] == []
    finally:
        page.close()


def look(page: Any, width: int, scheme: Scheme) -> None:
    """Give a tab a width and a color scheme."""
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")


def card(page: Any, model: str) -> Any:
    return page.get_by_role("region", name=model, exact=True)


def share(page: Any, model: str, label: str) -> float:
    """The probability of a class, once a model's card has it in front."""
    row = card(page, model).locator(".best", has=page.locator(".label", has_text=re.compile(f"^{label}$")))
    row.wait_for()
    return float(row.locator(".share").inner_text().split()[0]) / 100


def draw(page: Any, steps: int = 16) -> None:
    """A ring, drawn with the mouse in some steps: the digit zero."""
    box = page.get_by_role("img", name="Sheet to draw on").bounding_box()

    def place(turn: float) -> tuple[float, float]:
        across, down = 0.5 + 0.2 * math.sin(math.tau * turn), 0.5 - 0.36 * math.cos(math.tau * turn)
        return box["x"] + across * box["width"], box["y"] + down * box["height"]

    page.mouse.move(*place(0))
    page.mouse.down()
    for step in range(steps):
        page.mouse.move(*place((step + 1) / steps))
    page.mouse.up()
