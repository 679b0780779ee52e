"""Every screen in every state, in both themes, on a small phone and on a desk: nothing that axe finds, nothing that is
too small to hit, and no page that has to be moved sideways."""

from collections.abc import AsyncIterator, Iterator
from itertools import product
from typing import Any, Literal

import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import Browser, Page

from tests.journeys.browser.stage import Screen, Stage, bare, chosen, furnish, visit

pytestmark = pytest.mark.asyncio(loop_scope="module")
AXE = Axe()
ONLY_FAULTS = {"resultTypes": ["violations"]}
WIDTHS = (320, 1280)
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
SMALLEST_TARGET = 24
# Sizes of what can be pressed; a link in a line of text may be as high as its line (WCAG 2.5.8).
SIZES = """() => [...document.querySelectorAll('button, input:not([type=hidden]), select, summary, a.button, nav a')]
  .filter((each) => each.checkVisibility())
  .map((each) => [each.closest('label.choice') ?? each, each.outerHTML.slice(0, 120)])
  .map(([box, html]) => [box.getBoundingClientRect(), html])
  .map(([box, html]) => [box.width, box.height, html])"""
WIDER = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("accessibility")) as stage:
        yield stage


@pytest.fixture(scope="module")
def screens(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Screen]]:
    with Stage(tmp_path_factory.mktemp("nothing-yet")) as quiet:
        yield chosen([*bare(quiet), *furnish(stage)])


async def faults_of(page: Page) -> list[str]:
    """Of a page as it is shown now."""
    found: list[dict[str, Any]] = (await AXE.run(page, options=ONLY_FAULTS)).response["violations"]
    faults = [
        f"{rule['id']}: {node['html'][:160]} {node['failureSummary']}" for rule in found for node in rule["nodes"]
    ]
    small = [each for each in await page.evaluate(SIZES) if min(each[:2]) < SMALLEST_TARGET]
    faults += [f"{width:.0f} x {height:.0f} px: {html}" for width, height, html in small]
    if (wider := await page.evaluate(WIDER)) > 0:
        faults.append(f"{wider} px wider than the window")
    return faults


async def faults_in_all_its_looks(page: Page, screen: Screen) -> AsyncIterator[str]:
    await page.set_viewport_size({"width": WIDTHS[0], "height": 640})
    await visit(page, screen)
    for width, theme in product(WIDTHS, THEMES):
        await page.set_viewport_size({"width": width, "height": 640})
        await page.emulate_media(color_scheme=theme)
        for fault in await faults_of(page):
            yield f"{screen.name}, {theme}, {width} px: {fault}"


@pytest.mark.timeout(600)  # some hundred and fifty looks, on a machine that may be busy
async def test_everybody_can_use_every_screen(stage: Stage, screens: list[Screen], browser: Browser) -> None:
    pages = {role: await (await stage.window(browser, role)).new_page() for role in {each.role for each in screens}}
    faults = [fault for screen in screens async for fault in faults_in_all_its_looks(pages[screen.role], screen)]
    assert faults == []


# What is read, or told from what is around it, on which ground, and how much they differ at least (WCAG 1.4.3, 1.4.11).
TEXTS, MARKS, GROUNDS = (
    ("ink", "soft", "brand", "good", "bad", "wait", "busy"),
    ("control", "focus"),
    ("paper", "raised"),
)
PAIRS = [
    *((text, ground, 4.5) for text, ground in product(TEXTS, GROUNDS)),
    *((mark, ground, 3.0) for mark, ground in product(MARKS, GROUNDS)),
    ("on-brand", "brand", 4.5),
]
TOKEN = "(name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim()"


def contrast(one: str, other: str) -> float:
    """Of two colours such as #a33a1b, as WCAG 2.2 defines it."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[first : first + 2], 16) / 255 for first in (1, 3, 5)]
    red, green, blue = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", THEMES)
async def test_colours_can_be_told_apart(stage: Stage, browser: Browser, theme: Literal["light", "dark"]) -> None:
    page = await (await stage.window(browser, None, color_scheme=theme)).new_page()
    await page.goto(f"{stage.server.front}/")
    names = {name for pair in PAIRS for name in pair[:2]}
    colours = {name: await page.evaluate(TOKEN, name) for name in names}
    too_alike = [
        f"{one} on {ground}: {contrast(colours[one], colours[ground]):.2f}"
        for one, ground, least in PAIRS
        if contrast(colours[one], colours[ground]) < least
    ]
    assert too_alike == []
