"""What a page says, and its forms, as a browser without JavaScript has them."""

import re
from html import unescape

import httpx2

ORIGIN = {"Origin": "http://localhost:8001"}


def words_of(page: str) -> str:
    """The words of the page's main part, or of a piece of a page."""
    inside = page.partition("<main")[2].partition(">")[2] if "<main" in page else page
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", inside))).strip()


def row_with(page: str, text: str) -> str:
    """The one row of a table that has this text, as HTML."""
    [row] = [row for row in re.findall(r"<tr\b.*?</tr>", page, re.DOTALL) if text in row]
    return str(row)


def cell(row: str, label: str) -> str:
    """The words of one cell of a row, by its label."""
    [inside] = re.findall(rf'<td data-label="{label}"[^>]*>(.*?)</td>', row, re.DOTALL)
    return words_of(inside)


def buttons(page: str) -> list[str]:
    return [words_of(each) for each in re.findall(r"<button\b[^>]*>(.*?)</button>", page, re.DOTALL)]


async def press(client: httpx2.AsyncClient, part: str, button: str) -> httpx2.Response:
    """Send the one form in this part of a page that has a button of this name."""
    [(action, inside)] = [
        (action, inside)
        for action, inside in re.findall(r'<form [^>]*action="([^"]*)"[^>]*>(.*?)</form>', part, re.DOTALL)
        if button in buttons(inside)
    ]
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', inside))
    fields |= dict(re.findall(rf'<button name="(\w+)" value="([^"]*)"[^>]*>{button}<', inside))
    return await client.post(unescape(action), data=fields, headers=ORIGIN)


async def signed_in(client: httpx2.AsyncClient, token: str) -> httpx2.AsyncClient:
    answer = await client.post("/sign-in", data={"token": token, "next": "/queues"}, headers=ORIGIN)
    assert answer.status_code == 303, answer.text
    return client
