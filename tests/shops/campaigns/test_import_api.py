"""Files that staff sends: read, looked at, started or discarded, and carried out by a task."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from orderup.engine.limit import pause_queue, resume_queue
from orderup.engine.steer import cancel_operation
from orderup.model.ids import read_id
from orderup.model.operation import OperationStatus
from orderup.shops.campaigns import shop
from orderup.shops.campaigns.import_api import errors_as_csv
from orderup.shops.campaigns.placing import ADS_AT_ONCE
from orderup.shops.campaigns.reading import Problem
from orderup.shops.campaigns.tables import campaigns, imports
from tests.serving import sqlite_url
from tests.shops.campaigns.files import many, row, text_of
from tests.shops.served import Served, serve_shop

CSV = {"Content-Type": "text/csv"}


async def send(desk: Served, rows: list[dict[str, str]], query: str = "") -> Any:
    return await send_text(desk, text_of(rows), query)


async def send_text(desk: Served, text: str | bytes, query: str = "") -> Any:
    body = text.encode() if isinstance(text, str) else text
    return await desk.client.post(f"{desk.front}/campaigns/import{query}", content=body, headers=CSV)


async def until_done(desk: Served, shown: Any) -> Any:
    """The import, once its operation has come to its end."""
    id = read_id(shown["operation_id"])
    await desk.until_stands(id, lambda operation: operation.status is OperationStatus.COMPLETED)
    return (await desk.client.get(shown["links"]["self"])).json()


async def ids_here(desk: Served) -> list[str]:
    return await desk.house.database.read(
        lambda connection: sorted(row[0] for row in connection.rows(select(campaigns.c.id)))
    )


async def test_a_file_is_read_started_and_its_campaigns_are_placed(desk: Served) -> None:
    answer = await send(desk, many(3))
    assert answer.status_code == 202, answer.text
    shown = answer.json()
    assert answer.headers["location"] == shown["links"]["self"]
    assert (shown["state"], shown["name"], shown["rows"]) == ("ready", "campaigns.csv", 18)
    assert (shown["campaigns"], shown["ad_groups"], shown["ads"], shown["waiting"]) == (3, 6, 18, 3)
    assert shown["takes"] == {"least_seconds": 40, "usual_seconds": 81, "words": "1 minute"}
    assert await ids_here(desk) == []
    started = (await desk.client.post(shown["links"]["start"])).json()
    assert started["state"] in {"placing", "done"}
    after = await until_done(desk, started)
    assert (after["state"], after["placed"], after["waiting"]) == ("done", 3, 0)
    assert await ids_here(desk) == ["campaign-0", "campaign-1", "campaign-2"]
    listed = (await desk.client.get(f"{desk.front}/campaigns")).json()["campaigns"]
    assert len(listed) == 3


async def test_an_import_of_many_campaigns_is_placed_slice_by_slice(desk: Served) -> None:
    started = (await send(desk, many(4, groups=2, ads=ADS_AT_ONCE // 3))).json()
    after = await until_done(desk, (await desk.client.post(started["links"]["start"])).json())
    assert after["placed"] == 4


async def test_a_file_may_come_in_a_form(one_desk: Served) -> None:
    files = {"file": ("été\n.csv", text_of(many(1)).encode(), "text/csv")}
    answer = await one_desk.client.post(f"{one_desk.front}/campaigns/import", files=files)
    assert answer.status_code == 202, answer.text
    assert answer.json()["campaigns"] == 1
    assert answer.json()["name"].endswith(".csv")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"content": b"a", "headers": {"Content-Type": "application/json"}}, 415),
        ({"content": b"a"}, 415),
        ({"content": b"a", "headers": {"Content-Type": "multipart/form-data"}}, 400),
        ({"content": b"a", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 400),
        ({"files": {"other": ("a.csv", b"a")}}, 422),
        ({"data": {"file": "a"}, "files": {"x": ("a.csv", b"a")}}, 422),
        ({"content": b"", "headers": CSV}, 422),
        ({"content": b"a,b\n1,2\n", "headers": CSV}, 422),
        ({"content": b"\xff\xfe\0\0", "headers": CSV}, 422),
    ],
)
async def test_what_is_no_file_of_campaigns_is_refused(one_desk: Served, body: dict[str, Any], status: int) -> None:
    answer = await one_desk.client.post(f"{one_desk.front}/campaigns/import", **body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert (await one_desk.client.get(f"{one_desk.front}/campaigns/imports")).json()["imports"] == []


async def test_errors_are_told_with_line_and_column_page_by_page(one_desk: Served) -> None:
    rows = [row(), *(row(ad_id=f"a{number}", bid="free") for number in range(5))]
    shown = (await send(one_desk, rows)).json()
    assert (shown["error_count"], shown["campaigns"], shown["ads"]) == (5, 1, 1)
    assert (shown["errors"][0]["line"], shown["errors"][0]["column"]) == (3, "bid")
    found: list[int] = []
    cursor = ""
    while True:
        page = (await one_desk.client.get(f"{shown['links']['self']}?limit=2{cursor}")).json()
        found += [each["line"] for each in page["errors"]]
        if page["cursor"] is None:
            break
        cursor = f"&cursor={page['cursor']}"
    assert found == [3, 4, 5, 6, 7]


async def test_errors_can_be_had_as_a_csv(one_desk: Served) -> None:
    shown = (await send(one_desk, [row(), row(ad_id="a", bid="free")])).json()
    answer = await one_desk.client.get(shown["links"]["errors"])
    assert answer.headers["content-type"].startswith("text/csv")
    assert "attachment" in answer.headers["content-disposition"]
    [header, line] = csv.reader(io.StringIO(answer.text))
    assert header == ["line", "column", "message"]
    assert line[:2] == ["3", "bid"]


def test_no_error_is_a_formula() -> None:
    written = errors_as_csv([Problem(2, "=x", "@sum"), Problem(3, None, "-1")])
    assert list(csv.reader(io.StringIO(written)))[1:] == [["2", "'=x", "'@sum"], ["3", "", "'-1"]]


@pytest.mark.parametrize("query", ["?strict=1", "?dry_run=1"])
async def test_what_is_not_to_be_placed_cannot_be_started(one_desk: Served, query: str) -> None:
    shown = (await send(one_desk, [row(), row(ad_id="a", bid="free")], query)).json()
    assert (shown["state"], shown["error_count"]) == ("discarded", 1)
    assert (await one_desk.client.post(shown["links"]["start"])).status_code == 409


async def test_an_import_is_started_once(desk: Served) -> None:
    shown = (await send(desk, many(2))).json()
    answers = await asyncio.gather(*(desk.client.post(shown["links"]["start"]) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [202, 409, 409, 409]
    started = next(answer.json() for answer in answers if answer.status_code == 202)
    assert (await until_done(desk, started))["placed"] == 2


async def test_an_import_whose_operation_was_cancelled_is_started_again_and_once(desk: Served) -> None:
    await pause_queue(desk.house.engine, "campaigns/place_campaigns", by="ann")
    started = (await desk.client.post((await send(desk, many(3))).json()["links"]["start"])).json()
    assert (await desk.client.post(started["links"]["start"])).status_code == 409
    await cancel_operation(desk.house.engine, read_id(started["operation_id"]), reason="by mistake")
    answers = await asyncio.gather(*(desk.client.post(started["links"]["start"]) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [202, 409, 409, 409]
    again = next(answer.json() for answer in answers if answer.status_code == 202)
    assert again["operation_id"] != started["operation_id"]
    await resume_queue(desk.house.engine, "campaigns/place_campaigns")
    after = await until_done(desk, again)
    assert (after["state"], after["placed"], after["waiting"]) == ("done", 3, 0)
    assert await ids_here(desk) == ["campaign-0", "campaign-1", "campaign-2"]


async def test_what_is_discarded_cannot_be_started(one_desk: Served) -> None:
    shown = (await send(one_desk, many(2))).json()
    after = (await one_desk.client.post(shown["links"]["discard"])).json()
    assert (after["state"], after["waiting"]) == ("discarded", 0)
    assert (await one_desk.client.post(shown["links"]["start"])).status_code == 409
    assert (await one_desk.client.post(shown["links"]["discard"])).status_code == 409
    assert await ids_here(one_desk) == []


async def test_imports_are_listed_the_newest_first(one_desk: Served) -> None:
    sent = [(await send(one_desk, many(number))).json()["id"] for number in (1, 2, 3)]
    first = (await one_desk.client.get(f"{one_desk.front}/campaigns/imports?limit=2")).json()
    assert [each["id"] for each in first["imports"]] == sent[:0:-1]
    rest = (await one_desk.client.get(f"{one_desk.front}/campaigns/imports?cursor={first['cursor']}")).json()
    assert ([each["id"] for each in rest["imports"]], rest["cursor"]) == (sent[:1], None)


async def test_an_import_that_is_not_there_is_not_found(one_desk: Served) -> None:
    for path in ("x", "0123456789abc", "0123456789abc/errors.csv"):
        assert (await one_desk.client.get(f"{one_desk.front}/campaigns/imports/{path}")).status_code == 404
    assert (await one_desk.client.post(f"{one_desk.front}/campaigns/imports/0123456789abc/start")).status_code == 404


# large bodies


@pytest.fixture
async def small_desk(tmp_path: Path) -> AsyncIterator[Served]:
    """Takes files of a megabyte at most, and other bodies of a kilobyte."""
    url = sqlite_url(tmp_path)
    async with serve_shop(shop, url, import_megabytes=1, max_body_bytes=1024, body_seconds=1) as served:
        yield served


async def test_a_file_may_be_larger_than_other_bodies(small_desk: Served) -> None:
    text = text_of(many(2, groups=2, ads=500))
    assert 1024 < len(text) < 1 << 20
    answer = await send_text(small_desk, text)
    assert answer.status_code == 202, answer.text
    assert answer.json()["ads"] == 2_000
    answer = await small_desk.client.post(f"{small_desk.front}/campaigns", content=text, headers=CSV)
    assert answer.status_code == 413


@pytest.mark.parametrize("is_declared", [True, False])
async def test_a_file_that_is_too_large_is_refused(small_desk: Served, *, is_declared: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(5 << 4):
            yield b"x" * (1 << 16)

    content: Any = b"x" * (5 << 20) if is_declared else pieces()
    answer = await small_desk.client.post(f"{small_desk.front}/campaigns/import", content=content, headers=CSV)
    assert answer.status_code == 413
    assert await small_desk.house.database.read(lambda connection: connection.rows(select(imports.c.id))) == []


async def test_a_sender_who_does_not_get_on_is_cut_off(small_desk: Served) -> None:
    host, port = small_desk.front.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /campaigns/import HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-type: text/csv\r\n"
    writer.write(f"{head}content-length: 100000\r\n\r\n{text_of(many(1))}".encode())
    assert await reader.read() == b""
    writer.close()
    assert await small_desk.house.database.read(lambda connection: connection.rows(select(imports.c.id))) == []


async def test_nobody_but_staff_may_send_a_file(tmp_path: Path) -> None:
    async with serve_shop(shop, sqlite_url(tmp_path), secret_key="a-key-of-thirty-two-characters-or-more") as desk:
        answer = await send(desk, many(1))
        assert answer.status_code == 401
        answer = await desk.client.get(f"{desk.front}/campaigns/imports")
        assert answer.status_code == 401
