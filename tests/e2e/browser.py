"""A real browser, headless, and what it complains about."""

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
    """Run the browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Its sandbox needs rights that root in a container has not.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def visit(browser: Any, url: str, width: int = 1440, scheme: Scheme = "light", refused: bool = False) -> Iterator[Any]:
    """Open a page as somebody new; afterwards, nothing must be in its console: no error, no breach of its policy."""
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        reduced_motion="reduce",
        permissions=["clipboard-read", "clipboard-write"],
    )
    context.set_default_timeout(30_000)
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    try:
        page.goto(url)
        yield page
        assert [text for text in said if not (refused and REFUSED in text)] == []
    finally:
        context.close()
