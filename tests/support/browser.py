"""A real browser, as a reader of the report has one."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is missing: apt-get install --yes chromium"
)

# A page in a file needs nothing of what a browser looks for when it starts.
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Reader:
    """Somebody who has opened a file, and what happened meanwhile."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def open_all(self) -> None:
        """Click at everything that can be opened."""
        for summary in self.page.locator("summary").all():
            summary.click()

    def cut_off(self) -> list[str]:
        """What is broader than its place: what reaches out of the page, or scrolls sideways."""
        found: list[str] = self.page.evaluate(
            """() => [...document.querySelectorAll('body *')].filter(element => {
                const box = element.getBoundingClientRect();
                if (!box.width || !box.height || element.closest('thead')?.offsetWidth === 1)
                    return false;
                return box.left < -0.5 || box.right > document.documentElement.clientWidth + 0.5
                    || (element.matches('.scroll') && element.scrollWidth > element.clientWidth);
            }).map(element => element.outerHTML.slice(0, 200))"""
        )
        return found


@contextmanager
def reading(file: Path, *, width: int = 820, **options: Any) -> Iterator[Reader]:
    """The file in a window of a width in pixels; `options` are those of a browser's context."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        reader = Reader(context.new_page())
        reader.page.goto(file.as_uri())
        yield reader
        browser.close()
