import asyncio
import io
import json
import logging
from pathlib import Path

import pytest
import structlog
from pydantic import SecretStr
from websockets.asyncio.client import connect

from orderup.settings import LogFormat, LogLevel, Settings
from orderup.web.logs import HIDDEN, configure_logs
from orderup.web.tokens import Role
from tests.services.waiting import PATIENCE_SECONDS
from tests.web.endpoints import open_world
from tests.web.house import settings_for, token_of as house_token
from tests.web.sample import CLOSED, KEY, SECRET, bearer, client_of, exchange, sample_app, serving, token_of

LOGGED = Settings(
    log_format=LogFormat.JSON,
    log_level=LogLevel.DEBUG,
    secret_key=SECRET,
    slack_bot_token=SecretStr("xoxb-canary-1"),
    database_url="postgresql://me:canary-2@db/orders",
)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_of_json_carries_its_time_level_and_ids(stream: io.StringIO) -> None:
    configure_logs(LOGGED, stream=stream)
    structlog.get_logger().info("task completed", attempt=2, operation_id="0abc", task_id="0abc-1")
    structlog.get_logger().info("idle")
    first, second = lines(stream)
    assert str(first.pop("at")).endswith("Z")
    assert first == {
        "event": "task completed",
        "level": "info",
        "attempt": 2,
        "operation_id": "0abc",
        "task_id": "0abc-1",
    }
    assert "operation_id" not in second


def test_what_libraries_log_goes_the_same_way(stream: io.StringIO) -> None:
    configure_logs(LOGGED, stream=stream)
    logging.getLogger("uvicorn.error").warning("slow %s", "disk")
    [line] = lines(stream)
    assert (line["event"], line["level"]) == ("slow disk", "warning")


def test_of_what_alembic_sets_up_nothing_is_said(stream: io.StringIO) -> None:
    configure_logs(LOGGED, stream=stream)
    logging.getLogger("alembic.runtime.plugins").info("setup plugin alembic.autogenerate.schemas")
    logging.getLogger("alembic.runtime.migration").info("Will assume non-transactional DDL.")
    logging.getLogger("alembic.runtime.migration").warning("odd")
    assert [line["event"] for line in lines(stream)] == ["odd"]


def test_people_get_one_line_a_fact(stream: io.StringIO) -> None:
    configure_logs(LOGGED.model_copy(update={"log_format": LogFormat.PEOPLE}), stream=stream)
    structlog.get_logger().info("order placed", customer="a\nb\r\x1b[31m\u2028")
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()
    assert r"customer=a\nb\r\x1b[31m\u2028" in stream.getvalue()


@pytest.mark.parametrize("log_format", LogFormat)
def test_half_a_character_is_written_as_something_that_a_file_can_hold(
    stream: io.StringIO, log_format: LogFormat
) -> None:
    configure_logs(LOGGED.model_copy(update={"log_format": log_format}), stream=stream)
    structlog.get_logger().error("odd \ud800", path="\udfff", exc_info=ValueError("odd \ud800"))
    assert stream.getvalue().encode().count(b"ud800") == 2
    assert b"udfff" in stream.getvalue().encode()


def test_less_than_the_level_is_not_logged(stream: io.StringIO) -> None:
    configure_logs(LOGGED.model_copy(update={"log_level": LogLevel.WARNING}), stream=stream)
    structlog.get_logger().info("idle")
    structlog.get_logger().warning("busy")
    assert [line["event"] for line in lines(stream)] == ["busy"]


@pytest.mark.parametrize(
    "text",
    [
        "GET /pizza/pizzas/0abc?key=canary HTTP/1.1",
        "https://shop.example/live?after=1&key=canary#here",
        "Authorization: Bearer canary.canary.canary",
        "sent Basic Y2FuYXJ5OmNhbmFyeQ==canary",
        "token {token}canary",
        "connecting to amqp://guest:canary@mq:5672/",
        "slack said: bad token xoxb-canary-1",
        "password canary-2 is wrong",
        f"the key is {SECRET.get_secret_value()}",
    ],
)
def test_no_secret_is_written_wherever_it_stands(stream: io.StringIO, text: str) -> None:
    configure_logs(LOGGED, stream=stream)
    text = text.replace("{token}", token_of(Role.STAFF))
    log = structlog.get_logger()
    log.info(text)
    log.info("nested", request={"line": text, "lines": [text, (text,)]}, error=ValueError(text))
    logging.getLogger("library").info("%s", text)
    failure = ValueError(text)
    log.error("failed", exc_info=failure)
    logging.getLogger("library").error("failed", exc_info=failure)
    written = stream.getvalue()
    assert len(lines(stream)) == 5
    assert written.count(HIDDEN) >= 8
    for secret in ("canary", SECRET.get_secret_value(), token_of(Role.STAFF)[:40]):
        assert secret not in written


def test_what_is_called_a_secret_is_one(stream: io.StringIO) -> None:
    configure_logs(LOGGED, stream=stream)
    structlog.get_logger().info("claimed", token="canary", key="canary", headers={"Authorization": "canary"})
    assert "canary" not in stream.getvalue()


async def test_a_request_is_one_line_without_its_query(stream: io.StringIO) -> None:
    configure_logs(LOGGED, stream=stream)
    async with client_of(sample_app(CLOSED)) as client:
        await client.get(f"/orders/x1?key={KEY.text}", headers=bearer(token_of(Role.CUSTOMER)))
    [line] = lines(stream)
    assert (line["event"], line["method"], line["path"], line["status"]) == ("request", "GET", "/orders/x1", 200)
    assert isinstance(line["ms"], float)
    assert KEY.text not in stream.getvalue()


async def test_nothing_a_server_writes_holds_a_key_or_a_token(stream: io.StringIO) -> None:
    configure_logs(LOGGED, stream=stream)
    token = token_of(Role.STAFF)
    async with serving(sample_app(CLOSED), CLOSED) as port:
        for path in ("/orders/x1", "/nothing", "/fail/crash", "/orders/x1/live"):
            await exchange(
                port,
                f"GET {path}?key={KEY.text} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
                f"Referer: http://x/?key={KEY.text}\r\nConnection: close\r\n\r\n".encode(),
            )
        await exchange(port, f"broken ?key={KEY.text}\r\n\r\n".encode())
    written = stream.getvalue()
    assert "ZeroDivisionError" in written
    assert KEY.text not in written
    assert token not in written


async def test_probes_are_logged_only_when_debugging(stream: io.StringIO) -> None:
    configure_logs(LOGGED.model_copy(update={"log_level": LogLevel.INFO}), stream=stream)
    async with client_of(sample_app(CLOSED)) as client:
        await client.get("/healthz")
        await client.get("/menu")
    assert [line["path"] for line in lines(stream)] == ["/menu"]


async def test_ids_of_one_request_are_not_on_the_lines_of_the_next(stream: io.StringIO) -> None:
    configure_logs(LOGGED, stream=stream)
    structlog.contextvars.bind_contextvars(operation_id="of-somebody-else")
    async with client_of(sample_app(CLOSED)) as client:
        await client.get("/menu")
    assert "operation_id" not in lines(stream)[0]


async def test_every_line_of_an_order_is_found_by_its_id(stream: io.StringIO, tmp_path: Path) -> None:
    settings = settings_for(tmp_path, log_format=LogFormat.JSON)
    async with open_world(tmp_path, **settings.model_dump(include={"log_format"})) as world:
        configure_logs(settings, stream=stream)
        ask, staff = await world.order(), house_token(Role.STAFF)
        id, token = ask.parameters["id"], house_token(Role.WORKER)
        for app, method, path in [
            ("front", "GET", f"/pizza/pizzas/{id}?key={ask.key}"),
            ("front", "HEAD", f"/pizza/pizzas/{id}?key={ask.key}"),
            ("front", "GET", f"/pizza/pizzas/{id}?key=guess"),
            ("back", "GET", f"/api/operations/{id}"),
            ("back", "POST", f"/api/rfas/{id}/approve"),
            ("back", "GET", f"/api/tasks/{id}-2"),
        ]:
            await world.send(app, method, path, token=staff if app == "back" else None)
        await world.send("back", "POST", f"/api/work/{id}-2/heartbeat", token=token, body={"token": "x"})
        async with connect(world.url("front", f"/pizza/pizzas/{id}/live?key={ask.key}").replace("http", "ws", 1)):
            pass
        await world.send("back", "GET", "/api/operations/nobody", token=staff)
        await world.send("back", "GET", "/api/operations", token=staff)
        await until_sockets_are_closed(stream)
    requests = [line for line in lines(stream) if line["event"] in {"request", "websocket"}]
    assert [line["path"] for line in requests if line.get("operation_id") != id] == [
        "/api/operations/nobody",
        "/api/operations",
    ]
    assert len([line for line in requests if line.get("operation_id") == id]) == 9
    tasks = [line["path"] for line in requests if line.get("task_id") == f"{id}-2"]
    assert tasks == [f"/api/tasks/{id}-2", f"/api/work/{id}-2/heartbeat"]
    assert not any("operation_id" in line for line in requests if line["path"] == "/api/operations/nobody")


async def until_sockets_are_closed(stream: io.StringIO) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while '"event": "websocket"' not in stream.getvalue():  # noqa: ASYNC110  a log tells nobody
            await asyncio.sleep(0.01)


async def test_a_crash_is_told_with_the_ids_of_what_it_was_about(stream: io.StringIO) -> None:
    configure_logs(LOGGED, stream=stream)
    app = sample_app(CLOSED)
    async with client_of(app) as client:
        await client.get("/crash/0abcdefghjkmn-3")
    told = [line for line in lines(stream) if line["event"] in {"request crashed", "request"}]
    assert [(line["operation_id"], line["task_id"]) for line in told] == [("0abcdefghjkmn", "0abcdefghjkmn-3")] * 2
