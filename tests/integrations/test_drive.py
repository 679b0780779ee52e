"""Documents to which lines are appended: at the sandbox's Drive and Docs, and as Google itself describes them."""

import json
import re
from collections.abc import AsyncIterator, Mapping
from importlib.resources import files
from typing import Any

import httpx2
import pytest
from hypothesis import given, strategies as st
from prometheus_client import CollectorRegistry

from orderup.errors import Invalid, Misconfigured, OutcomeUnknown, UpstreamFailed, UpstreamRefused
from orderup.integrations.drive import Document, Drive, open_drive, quoted
from orderup.integrations.upstream import UpstreamMetrics
from orderup.sandbox import Sandbox, serve_sandbox
from orderup.sandbox.google import SHARED_DRIVE, Exchange, File, mask_of
from orderup.settings import Settings
from tests.integrations.google_account import settings_for
from tests.services.waiting import PATIENCE_SECONDS

KEY = "mr_cakelover"
NAME = "Mr Cakelover cancelled orders"
LINE = "- Order 21 [Chocolate Cake] : Date 01/01/2022 06:10"
AWKWARD = 'O\'Brien \\ "Bob" <b>\r\n- Order 22 [free] \u202e \ue000 שלום 🍰'


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with serve_sandbox(scale=1_000) as sandbox:
        yield sandbox


@pytest.fixture
async def drive(sandbox: Sandbox) -> AsyncIterator[Drive]:
    async with open_drive(settings_for(sandbox), UpstreamMetrics(CollectorRegistry())) as drive:
        yield drive


@pytest.fixture
async def folder_id(drive: Drive) -> str:
    return await drive.create_folder("Orders")


@pytest.fixture
async def document(sandbox: Sandbox, drive: Drive, folder_id: str) -> File:
    """An empty one."""
    return sandbox.drive.files[await drive.create_document(name=NAME, folder_id=folder_id, key=KEY)]


async def read(drive: Drive, document: File) -> Document:
    found = await drive.read(document.id)
    assert found is not None
    return found


# folders and documents


async def test_a_folder_is_found_by_its_name_the_oldest_first(drive: Drive) -> None:
    assert await drive.find_folder(AWKWARD) is None
    first = await drive.create_folder("O'Brien's \\ orders")
    await drive.create_folder("O'Brien's \\ orders")
    assert await drive.find_folder("O'Brien's \\ orders") == first
    assert await drive.find_folder("O") is None


async def test_a_document_is_found_by_its_key_whatever_people_call_it(
    sandbox: Sandbox, drive: Drive, folder_id: str, document: File
) -> None:
    document.name = "Renamed"
    [found] = await drive.find_document(folder_id=folder_id, key=KEY)
    assert (found.id, found.name) == (document.id, "Renamed")
    assert await drive.find_document(folder_id=folder_id, key="mr") == []
    assert await drive.find_document(folder_id="elsewhere", key=KEY) == []
    sandbox.drive.files[document.id].trashed = True
    assert await drive.find_document(folder_id=folder_id, key=KEY) == []


@given(st.text())
def test_nothing_that_is_searched_for_ends_the_string_that_it_stands_in(text: str) -> None:
    inside = quoted(text)[1:-1]
    assert re.fullmatch(r"(?:[^'\\]|\\.)*", inside, re.DOTALL)
    assert re.sub(r"\\(.)", r"\1", inside, flags=re.DOTALL) == text


async def test_a_key_with_quotes_finds_its_own_document_only(drive: Drive, folder_id: str, document: File) -> None:
    key = "x' or '1'='1\\"
    assert await drive.find_document(folder_id=folder_id, key=key) == []
    made = await drive.create_document(name="Quotes", folder_id=folder_id, key=key)
    assert [file.id for file in await drive.find_document(folder_id=folder_id, key=key)] == [made]
    assert made != document.id


async def test_of_several_documents_the_oldest_comes_first_over_all_pages(drive: Drive, folder_id: str) -> None:
    made = [await drive.create_document(name=NAME, folder_id=folder_id, key=KEY) for _ in range(103)]
    assert [file.id for file in await drive.find_document(folder_id=folder_id, key=KEY)] == made


async def test_a_key_that_is_too_long_for_drive_is_refused_before_it_is_asked(
    sandbox: Sandbox, drive: Drive, folder_id: str
) -> None:
    with pytest.raises(Invalid):
        await drive.create_document(name=NAME, folder_id=folder_id, key="x" * 120)
    await drive.create_document(name=NAME, folder_id=folder_id, key="x" * 100)
    assert sandbox.drive.asked["create_file"] == 2


async def test_a_search_that_did_not_look_everywhere_found_nothing_out(
    sandbox: Sandbox, drive: Drive, folder_id: str
) -> None:
    sandbox.drive.is_search_incomplete = True
    with pytest.raises(UpstreamFailed, match="not searched everywhere"):
        await drive.find_document(folder_id=folder_id, key=KEY)


@pytest.mark.parametrize("fault", [{"status": 500}, {"body": "reset"}, {"body": "garbage"}, {"body": "empty"}])
@pytest.mark.parametrize("takes_effect", [True, False])
async def test_nobody_knows_of_a_document_until_he_has_searched(
    sandbox: Sandbox, drive: Drive, folder_id: str, fault: dict[str, object], *, takes_effect: bool
) -> None:
    sandbox.drive.switch(route="create_file", times=1, takes_effect=takes_effect, **fault)
    with pytest.raises(OutcomeUnknown):
        await drive.create_document(name=NAME, folder_id=folder_id, key=KEY)
    found = await drive.find_document(folder_id=folder_id, key=KEY)
    assert len(found) == takes_effect


async def test_search_may_be_late(sandbox: Sandbox, drive: Drive, folder_id: str, document: File) -> None:
    sandbox.drive.delay_search(3_600_000)
    assert await drive.find_document(folder_id=folder_id, key=KEY) == []
    assert (await read(drive, document)).lines == ()


# lines


async def test_lines_are_appended_one_after_the_other(drive: Drive, document: File) -> None:
    empty = await read(drive, document)
    assert empty == Document(document.revision, ())
    assert await drive.append(document.id, text=LINE, revision=empty.revision)
    once = await read(drive, document)
    assert once.lines == (LINE,)
    assert await drive.append(document.id, text="Second", revision=once.revision)
    assert (await read(drive, document)).lines == (LINE, "Second") == tuple(document.lines)


async def test_whatever_a_line_has_in_it_it_is_one_line_and_read_as_it_was_written(
    drive: Drive, document: File
) -> None:
    assert await drive.append(document.id, text=f"- Order 21 [{AWKWARD}]", revision=document.revision)
    [line] = (await read(drive, document)).lines
    assert line == '- Order 21 [O\'Brien \\ "Bob" <b> - Order 22 [free] שלום 🍰]'
    with pytest.raises(Invalid):
        await drive.append(document.id, text="\n\x00", revision=document.revision)


async def test_several_lines_come_together_or_not_at_all(drive: Drive, document: File) -> None:
    before = document.revision
    assert await drive.append_lines(document.id, lines=["One", "Two\nand more"], revision=before)
    assert document.lines == ["One", "Two and more"]
    assert not await drive.append_lines(document.id, lines=["Three", "Four"], revision=before)
    assert document.lines == ["One", "Two and more"]


async def test_a_document_that_has_moved_on_is_not_written_to(drive: Drive, document: File) -> None:
    before = await read(drive, document)
    document.write("Somebody was here\n")
    assert not await drive.append(document.id, text=LINE, revision=before.revision)
    assert document.lines == ["Somebody was here"]


@pytest.mark.parametrize("fault", [{"status": 500}, {"body": "reset"}, {"body": "garbage"}])
async def test_a_line_that_is_sent_again_arrives_once(
    sandbox: Sandbox, drive: Drive, document: File, fault: dict[str, object]
) -> None:
    revision = document.revision
    sandbox.drive.switch(route="write_document", times=1, takes_effect=True, **fault)
    with pytest.raises(UpstreamFailed) as failed:
        await drive.append(document.id, text=LINE, revision=revision)
    assert not isinstance(failed.value, OutcomeUnknown)
    assert not await drive.append(document.id, text=LINE, revision=revision)
    assert document.lines == [LINE]


async def test_what_somebody_wrote_without_ending_its_line_is_not_written_into(drive: Drive, document: File) -> None:
    document.write("Read on Monday")
    found = await read(drive, document)
    assert (found.lines, found.is_open) == (("Read on Monday",), True)
    assert await drive.append(document.id, text=LINE, revision=found.revision, is_open=found.is_open)
    assert document.lines == ["Read on Monday", LINE]
    assert not (await read(drive, document)).is_open


async def test_empty_lines_before_the_last_one_are_kept(drive: Drive, document: File) -> None:
    document.write("\nOne\n\nTwo\n\n\n")
    assert (await read(drive, document)).lines == ("", "One", "", "Two")


async def test_what_is_in_the_bin_or_gone_cannot_be_read_or_written(
    sandbox: Sandbox, drive: Drive, document: File
) -> None:
    document.trashed = True
    assert await drive.read(document.id) is None
    del sandbox.drive.files[document.id]
    assert await drive.read(document.id) is None
    assert not await drive.append(document.id, text=LINE, revision=document.revision)
    assert await drive.read("../files?q=x") is None


async def test_other_refusals_are_for_good(sandbox: Sandbox, drive: Drive, document: File) -> None:
    sandbox.drive.switch(status=400, route="write_document")
    with pytest.raises(UpstreamRefused, match="switched to answer 400"):
        await drive.append(document.id, text=LINE, revision=document.revision)
    with pytest.raises(UpstreamRefused, match="File not found: elsewhere"):
        await drive.create_document(name=NAME, folder_id="elsewhere", key=KEY)


# a shared drive, links, the check


async def test_in_a_shared_drive_all_is_found_and_made_there(sandbox: Sandbox) -> None:
    settings = settings_for(sandbox, google_drive_id=SHARED_DRIVE)
    async with open_drive(settings, UpstreamMetrics(CollectorRegistry())) as drive:
        folder_id = await drive.create_folder("Orders")
        assert sandbox.drive.files[folder_id].parent == SHARED_DRIVE
        assert await drive.find_folder("Orders") == folder_id
        made = await drive.create_document(name=NAME, folder_id=folder_id, key=KEY)
        assert [file.id for file in await drive.find_document(folder_id=folder_id, key=KEY)] == [made]
        assert await drive.check() == "orderup@sandbox.example, in the shared drive Sandbox"


async def test_a_shared_drive_that_is_not_there_is_said(sandbox: Sandbox) -> None:
    settings = settings_for(sandbox, google_drive_id="0Another")
    async with open_drive(settings, UpstreamMetrics(CollectorRegistry())) as drive:
        assert await drive.check() == "orderup@sandbox.example, and no drive 0Another"


async def test_the_check_says_who_we_are(drive: Drive) -> None:
    assert await drive.check() == "orderup@sandbox.example, in its own drive"


async def test_a_link_leads_a_person_to_the_document(drive: Drive, document: File) -> None:
    async with httpx2.AsyncClient(follow_redirects=True, timeout=PATIENCE_SECONDS) as visitor:
        page = await visitor.get(drive.link(document.id))
    assert page.url.fragment == document.id
    assert NAME in page.text


async def test_at_google_a_link_leads_to_google(sandbox: Sandbox) -> None:
    settings = Settings(google_token_url=f"{sandbox.base_url}/google/token")
    async with open_drive(settings, UpstreamMetrics(CollectorRegistry())) as drive:
        assert drive.link("1a/b") == "https://docs.google.com/document/d/1a%2Fb/edit"


async def test_without_a_key_or_somebody_who_stands_in_it_is_not_opened() -> None:
    with pytest.raises(Misconfigured, match="GOOGLE_CREDENTIALS_FILE"):
        async with open_drive(Settings(), UpstreamMetrics(CollectorRegistry())):
            pass


# as Google describes it


class Description:
    """Of one API, as Google publishes it."""

    def __init__(self, name: str) -> None:
        path = files("googleapiclient") / "discovery_cache" / "documents" / f"{name}.json"
        self.api: Mapping[str, Any] = json.loads(path.read_text())

    def method(self, exchange: Exchange) -> Mapping[str, Any]:
        for resource in self.api["resources"].values():
            for method in resource["methods"].values():
                path = f"/{self.api['servicePath']}{method['path']}"
                asked = _plain(exchange.path.removeprefix("/docs"))
                if (method["httpMethod"], _plain(path)) == (exchange.method, asked):
                    return dict(method)
        raise AssertionError(f"Google knows no {exchange.method} {exchange.path}")

    def problems(self, given: Any, schema: Mapping[str, Any], *, where: str) -> list[str]:
        """What of it does not keep to the schema."""
        if "$ref" in schema:
            return self.problems(given, self.api["schemas"][schema["$ref"]], where=where)
        kinds: Mapping[str, type] = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int}
        if schema["type"] != "any" and not isinstance(given, kinds[schema["type"]]):
            return [f"{where} is no {schema['type']}"]
        if isinstance(given, list):
            return [each for one in given for each in self.problems(one, schema["items"], where=f"{where}[]")]
        if not isinstance(given, dict):
            return []
        known, other = schema.get("properties", {}), schema.get("additionalProperties")
        return [
            each
            for name, value in given.items()
            for each in (
                self.problems(value, known.get(name, other), where=f"{where}.{name}")
                if name in known or other
                else [f"{where}.{name} is unknown"]
            )
        ]

    def unknown_in(self, mask: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
        """Fields that are asked for and that nobody has."""
        while "$ref" in schema or schema.get("type") == "array":
            schema = self.api["schemas"][schema["$ref"]] if "$ref" in schema else schema["items"]
        known = schema.get("properties", {})
        below = [each for name in mask if name in known for each in self.unknown_in(mask[name], known[name])]
        return [name for name in mask if name not in known] + below


def _plain(path: str) -> str:
    return re.sub(r"\{\+?\w+\}", "{}", path)


def problems_of(exchange: Exchange) -> list[str]:
    description = Description("drive.v3" if exchange.path.startswith("/drive") else "docs.v1")
    method, query = description.method(exchange), exchange.asked.query
    allowed = method.get("parameters", {}).keys() | description.api["parameters"].keys()
    found = [f"parameter {name} is unknown" for name in query if name not in allowed]
    if exchange.asked.body:
        assert "request" in method
        found += description.problems(exchange.asked.json(), method["request"], where="request")
    found += description.problems(exchange.said.json, method["response"], where="response")
    if "fields" in query:
        mask = mask_of(query["fields"])
        assert mask is not None
        found += description.unknown_in(mask, method["response"])
    return found


async def test_our_requests_and_the_sandboxs_answers_are_as_google_describes_them(sandbox: Sandbox) -> None:
    settings = settings_for(sandbox, google_drive_id=SHARED_DRIVE)
    async with open_drive(settings, UpstreamMetrics(CollectorRegistry())) as drive:
        folder_id = await drive.create_folder("Orders")
        await drive.find_folder("Orders")
        id = await drive.create_document(name=NAME, folder_id=folder_id, key=KEY)
        await drive.find_document(folder_id=folder_id, key=KEY)
        found = await drive.read(id)
        assert found is not None
        await drive.append(id, text=LINE, revision=found.revision)
        await drive.read(id)
        await drive.check()
    exchanges = [exchange for exchange in sandbox.drive.exchanges if exchange.path != "/token"]
    assert {exchange.path for exchange in exchanges} == {call.path for call in sandbox.drive.calls()} - {"/token"}
    assert [problem for exchange in exchanges for problem in problems_of(exchange)] == []


def test_a_request_that_google_does_not_know_is_noticed(document: File, sandbox: Sandbox) -> None:
    description = Description("drive.v3")
    [_, _, created] = sandbox.drive.exchanges
    schema = description.method(created)["request"]
    assert description.problems({"appProperties": {"a": 1}, "nmae": "x"}, schema, where="request") == [
        "request.appProperties.a is no string",
        "request.nmae is unknown",
    ]
    assert description.unknown_in({"id": {}, "idd": {}}, schema) == ["idd"]
    assert document.name == NAME
