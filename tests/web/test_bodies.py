"""What cannot be read is refused with a 4xx that names the field: bodies and queries, generated from the OpenAPI."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

import httpx2
import jsonschema_rs
import pytest
import pytest_asyncio

from orderup.web.tokens import Role
from tests.web.endpoints import OWNER, RECIPES, WEBSOCKET, Ask, Endpoint, World, open_world
from tests.web.house import token_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROWS = sorted(RECIPES, key=lambda row: (row[1], row[0]))
WRITES = [row for row in ROWS if row[0] not in {"GET", WEBSOCKET}]
MIB = 1 << 20
WORDS: Mapping[str, Any] = {"true": True, "false": False}
# One of each type that JSON has, with none of the values that a field could mean.
SAMPLES: tuple[Any, ...] = (None, True, 5, -1, 1.5, 1e300, "", "x" * 20_000, "no such thing", [], [[]], {}, {"a": 1})
QUERIES = ("x", "", "-1", "1.5", "1e3", "99999999999999999999", "true", "null", "[]", "x" * 200, "1,2", "%", "²")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with open_world(tmp_path_factory.mktemp("bodies")) as world:
        yield world


def token_for(endpoint: Endpoint) -> str:
    """Of whoever may use it."""
    role = next(role for role in (Role.STAFF, Role.WORKER, Role.CUSTOMER, Role.ADMIN) if opens(endpoint, role))
    return token_of(role, OWNER)


def opens(endpoint: Endpoint, role: Role) -> bool:
    return role.value in endpoint.roles or "anyone" in endpoint.roles


def endpoints_at(world: World, method: str, path: str) -> list[Endpoint]:
    return [endpoint for endpoint in world.endpoints if endpoint.name == (method, path)]


def body_of(world: World, endpoint: Endpoint) -> Mapping[str, Any]:
    """The schema of its body, of which what it refers to is part."""
    return whole(world, endpoint, endpoint.operation["requestBody"]["content"]["application/json"]["schema"])


def whole(world: World, endpoint: Endpoint, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    app = world.house.front if endpoint.app == "front" else world.house.back
    return {**schema, "components": app.openapi()["components"]}


def fields_of(schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    """Name, schema and whether it is required, of each field of a body."""
    model = resolve(schema, schema)
    for name, field in model["properties"].items():
        yield name, {**field, "components": schema["components"]}, name in model.get("required", ())


def resolve(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The model that a body's schema refers to."""
    for choice in schema.get("anyOf", [schema]):
        if "$ref" in choice:
            found: Mapping[str, Any] = document["components"]["schemas"][choice["$ref"].rpartition("/")[2]]
            return found
    raise AssertionError(f"no model in {schema}")


async def post(world: World, endpoint: Endpoint, ask: Ask, content: Any, **headers: str) -> httpx2.Response:
    """Send these bytes as they are."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token_for(endpoint)}", **headers}
    url = world.url(endpoint.app, ask.path(endpoint))
    return await world.client.request(endpoint.method, url, content=content, headers=headers)


def assert_refused(endpoint: Endpoint, answer: httpx2.Response, status: int, field: str | None, sent: object) -> None:
    """In the shape that is usual there; `field`, or what lies in it, is named."""
    if endpoint.tells_details:
        # what cannot be read at all is 422, too, as FastAPI has it
        assert_details(answer, 422 if status == 400 else status, field, (str(endpoint), sent))
    else:
        assert_problem(answer, status, field, (str(endpoint), sent))


def assert_problem(answer: httpx2.Response, status: int, field: str | None, sent: object) -> None:
    assert answer.status_code == status, (sent, answer.text)
    assert answer.headers["content-type"] == "application/problem+json", sent
    problem = answer.json()
    assert problem["status"] == status
    if field is not None:
        assert_named(field, [error["field"] for error in problem["errors"]], (sent, problem))


def assert_details(answer: httpx2.Response, status: int, field: str | None, sent: object) -> None:
    assert answer.status_code == status, (sent, answer.text)
    assert answer.headers["content-type"] == "application/json", sent
    told = answer.json()
    assert set(told) == {"detail"}
    if field is None:
        assert isinstance(told["detail"], str), (sent, told)
        return
    assert all(set(each) == {"type", "loc", "msg"} for each in told["detail"]), (sent, told)
    assert_named(field, [".".join(map(str, each["loc"])) for each in told["detail"]], (sent, told))


def assert_named(field: str, named: list[str], told: object) -> None:
    assert any(name == field or name.startswith(f"{field}.") for name in named), told


def encode(value: object) -> bytes:
    return json.dumps(value).encode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def with_body(world: World) -> list[Endpoint]:
    found = [endpoint for endpoint in world.endpoints if endpoint.has_body]
    assert len(found) >= 10
    return found


async def ready(world: World, endpoint: Endpoint) -> Ask:
    ask = await RECIPES[endpoint.name](world)
    return Ask(ask.parameters, {} if ask.body is None else ask.body, ask.key)


async def assert_unchanged(world: World, endpoint: Endpoint, ask: Ask) -> None:
    """What was refused left no trace: the right request succeeds."""
    answer = await post(world, endpoint, ask, encode(ask.body))
    assert answer.status_code == endpoint.success, answer.text


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 400),
        (b"{'a': 1}", 400),
        (b'{"a": NaN}', 400),
        (b'{"a": 1e999}', 400),
        (b'{"a": "\xff"}', 400),
        (b'{"a": "\\ud800"}', 400),
        (b"{} {}", 400),
        (b"\x00", 400),
        (b"[]", 422),
        (b'"text"', 422),
        (b"5", 422),
        (b"true", 422),
        (b"[" * 100_000, 422),
        (b'{"a":' * 100 + b"1" + b"}" * 100, 422),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_what_is_no_json_object_is_refused_everywhere(
    world: World, with_body: list[Endpoint], content: bytes, status: int
) -> None:
    for endpoint in with_body:
        ask = await ready(world, endpoint)
        answer = await post(world, endpoint, ask, content)
        # Who nests 100,000 levels may run into either bound first.
        expected = answer.status_code if len(content) > 1_000 and answer.status_code == 400 else status
        assert_refused(endpoint, answer, expected, "body", content[:50])
        await assert_unchanged(world, endpoint, ask)


async def test_a_field_that_nobody_knows_is_refused_by_its_name(world: World, with_body: list[Endpoint]) -> None:
    for endpoint in with_body:
        ask = await ready(world, endpoint)
        for name in ("nonsense", "__proto__", "", "Token", "ключ"):
            answer = await post(world, endpoint, ask, encode({**ask.body, name: 1}))
            assert_refused(endpoint, answer, 422, f"body.{name}", name)
        await assert_unchanged(world, endpoint, ask)


async def test_a_required_field_that_is_missing_is_named(world: World, with_body: list[Endpoint]) -> None:
    asked_for = 0
    for endpoint in with_body:
        ask = await ready(world, endpoint)
        for name, _, is_required in fields_of(body_of(world, endpoint)):
            if is_required:
                without = {key: value for key, value in ask.body.items() if key != name}
                answer = await post(world, endpoint, ask, encode(without))
                assert_refused(endpoint, answer, 422, f"body.{name}", without)
                asked_for += 1
        await assert_unchanged(world, endpoint, ask)
    assert asked_for >= 10


async def test_a_value_that_its_schema_forbids_is_refused_by_the_fields_name(
    world: World, with_body: list[Endpoint]
) -> None:
    refused = 0
    for endpoint in with_body:
        ask = await ready(world, endpoint)
        for name, schema, _ in fields_of(body_of(world, endpoint)):
            allows = jsonschema_rs.validator_for(dict(schema), validate_formats=True).is_valid
            for sample in (sample for sample in SAMPLES if not allows(sample)):
                answer = await post(world, endpoint, ask, encode({**ask.body, name: sample}))
                assert_refused(endpoint, answer, 422, f"body.{name}", (name, str(sample)[:50]))
                refused += 1
        await assert_unchanged(world, endpoint, ask)
    assert refused > 100


async def test_a_nul_in_any_text_is_refused_by_the_fields_name(world: World, with_body: list[Endpoint]) -> None:
    for endpoint in with_body:
        ask = await ready(world, endpoint)
        for name, _, _ in fields_of(body_of(world, endpoint)):
            for value in ("a\0b", {"deep": ["a\0b"]}):
                answer = await post(world, endpoint, ask, encode({**ask.body, name: value}))
                assert_refused(endpoint, answer, 422, f"body.{name}", name)
        await assert_unchanged(world, endpoint, ask)


async def test_a_body_above_one_mib_is_413_however_it_is_sent(world: World, with_body: list[Endpoint]) -> None:
    async def in_parts() -> AsyncIterator[bytes]:
        for _ in range(17):
            yield b" " * (64 << 10)

    for endpoint in with_body:
        ask = await ready(world, endpoint)
        right = encode(ask.body)
        # what says so itself is refused before a route is looked for
        assert_problem(await post(world, endpoint, ask, right + b" " * MIB), 413, None, str(endpoint))
        assert_refused(endpoint, await post(world, endpoint, ask, in_parts()), 413, None, "in parts")
        largest = right + b" " * (MIB - len(right))
        assert (await post(world, endpoint, ask, largest)).status_code == endpoint.success, str(endpoint)


async def test_a_body_that_is_not_announced_as_json_is_415(world: World, with_body: list[Endpoint]) -> None:
    for endpoint in with_body:
        ask = await ready(world, endpoint)
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonp", ""):
            answer = await post(world, endpoint, ask, encode(ask.body), **{"Content-Type": kind})
            assert_refused(endpoint, answer, 415, None, kind)
        await assert_unchanged(world, endpoint, ask)


async def test_a_body_that_is_required_cannot_be_left_out(world: World, with_body: list[Endpoint]) -> None:
    for endpoint in with_body:
        if endpoint.operation["requestBody"].get("required"):
            ask = await ready(world, endpoint)
            assert_refused(endpoint, await post(world, endpoint, ask, b""), 422, "body", "nothing")
            await assert_unchanged(world, endpoint, ask)


@pytest.mark.parametrize(("method", "path"), ROWS)
async def test_a_query_that_its_schema_forbids_is_refused_by_the_parameters_name(
    world: World, method: str, path: str
) -> None:
    for endpoint in endpoints_at(world, method, path):
        ask = await RECIPES[endpoint.name](world)
        for parameter in parameters_of(endpoint, "query"):
            schema = whole(world, endpoint, parameter["schema"])
            for text in (text for text in QUERIES if not may_be(schema, text)):
                answer = await ask_with(world, endpoint, ask, {parameter["name"]: text})
                if endpoint.is_page:
                    assert answer.status_code == 422, (str(endpoint), text)
                    continue
                assert_refused(endpoint, answer, 422, f"query.{parameter['name']}", text)


def parameters_of(endpoint: Endpoint, place: str) -> list[Mapping[str, Any]]:
    """Those in the path, or in the query."""
    return [each for each in endpoint.operation.get("parameters", ()) if each["in"] == place]


def may_be(schema: Mapping[str, Any], text: str) -> bool:
    """Whether some reading of this text fits."""
    readings: list[Any] = [text, *(value for word, value in WORDS.items() if word == text)]
    for read in (int, float):
        try:
            readings.append(read(text))
        except ValueError:
            continue
    allows = jsonschema_rs.validator_for(dict(schema), validate_formats=True).is_valid
    return any(allows(reading) for reading in readings)


async def ask_with(world: World, endpoint: Endpoint, ask: Ask, query: Mapping[str, str]) -> httpx2.Response:
    """The answer, read unless it succeeded: it might be a stream without an end."""
    headers = {"Authorization": f"Bearer {token_for(endpoint)}"}
    url = world.url(endpoint.app, ask.path(endpoint))
    async with world.client.stream(endpoint.method, url, params=query, headers=headers) as answer:
        if not answer.is_success:
            await answer.aread()
        assert not answer.is_success, (str(endpoint), query)
    return answer


@pytest.mark.parametrize("value", [b"x", b"-1", b"1.5", b"99999999999999999999", b"\xb2"])
async def test_a_last_event_id_that_is_none_is_refused_by_its_name(world: World, value: bytes) -> None:
    streams = [endpoint for endpoint in world.endpoints if endpoint.is_stream]
    assert len(streams) >= 2
    for endpoint in streams:
        ask = await RECIPES[endpoint.name](world)
        headers = [(b"Authorization", f"Bearer {token_for(endpoint)}".encode()), (b"Last-Event-ID", value)]
        answer = await world.client.get(world.url(endpoint.app, ask.path(endpoint)), headers=headers)
        assert_refused(endpoint, answer, 422, "header.Last-Event-ID", value)


@pytest.mark.parametrize("id", ["0", "x" * 13, "0" * 13, "zzzzzzzzzzzzz", "%00", "..%2F..", "🍕", "0" * 5_000])
async def test_an_id_that_nobody_has_is_404_everywhere(world: World, id: str) -> None:
    for endpoint in world.endpoints:
        if "{" not in endpoint.path or endpoint.method == WEBSOCKET:
            continue
        ask = await RECIPES[endpoint.name](world)
        nobodys = Ask(dict.fromkeys(ask.parameters, id), ask.body, form=ask.form)
        answer = await world.send(
            endpoint.app,
            endpoint.method,
            nobodys.path(endpoint),
            token=token_for(endpoint),
            body=ask.body,
            data=ask.form,
        )
        assert answer.status_code == status_of_nobodys(world, endpoint, id), (str(endpoint), answer.text)
        assert len(answer.content) < 12_000


def status_of_nobodys(world: World, endpoint: Endpoint, id: str) -> int:
    """404, unless it is no text, or comes to a route where it could not be anybody's."""
    if id == "%00":
        return 400
    schemas = [whole(world, endpoint, each["schema"]) for each in parameters_of(endpoint, "path")]
    return 404 if "/" in unquote(id) or all(may_be(schema, id) for schema in schemas) else 422


async def test_only_the_tasks_api_is_described_with_details_for_errors(world: World) -> None:
    def describes_details(endpoint: Endpoint) -> bool:
        return "application/json" in endpoint.operation["responses"]["default"]["content"]

    described = {endpoint.name for endpoint in world.endpoints if endpoint.operation and describes_details(endpoint)}
    assert described == {endpoint.name for endpoint in world.endpoints if endpoint.tells_details}
    assert len(described) == 10
