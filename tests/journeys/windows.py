"""A real browser's windows, each somebody's own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from tests.services.programs import CHROMIUM_FLAGS
from tests.services.waiting import PATIENCE_SECONDS

PHONE, TABLET, DESK = {"width": 390, "height": 780}, {"width": 1024, "height": 768}, {"width": 1280, "height": 800}
PATIENCE_MS = PATIENCE_SECONDS * 1000


class Windows:
    """`wrong` is what their consoles complain of, but for what is `foreseen`: at first, what a server that is away
    brings."""

    def __init__(self, browser: Browser) -> None:
        self.browser, self.wrong = browser, list[str]()
        self.foreseen = ["ERR_CONNECTION", "ERR_INTERNET_DISCONNECTED", "WebSocket"]

    async def open(self, address: str, *, size: dict[str, int] = DESK, **options: object) -> Page:
        context: BrowserContext = await self.browser.new_context(viewport=size, **options)  # type: ignore[arg-type]
        context.set_default_timeout(PATIENCE_MS)
        page = await context.new_page()
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", lambda line: self._note(line.type, line.text))
        await page.goto(address)
        return page

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not any(each in text for each in self.foreseen):
            self.wrong.append(text)


@asynccontextmanager
async def open_browser(chromium: Path) -> AsyncIterator[Browser]:
    expect.set_options(timeout=PATIENCE_MS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM_FLAGS))
        yield browser
        await browser.close()


@asynccontextmanager
async def open_windows(browser: Browser) -> AsyncIterator[Windows]:
    """At the end they are closed, and nothing went wrong in any of them."""
    windows = Windows(browser)
    try:
        yield windows
    finally:
        for context in browser.contexts:
            await context.close()
    assert windows.wrong == []
