import hashlib
import re

import pytest

from orderup.web.docs import FOLDER, POLICY
from tests.web.sample import CLOSED, client_of, sample_app

SUMS = [line.split() for line in (FOLDER / "swagger-ui" / "SHA256SUMS").read_text().splitlines()]


async def test_the_docs_are_served_from_the_package() -> None:
    async with client_of(sample_app(CLOSED)) as client:
        page = await client.get("/docs/")
        assert page.status_code == 200
        assert page.headers["content-security-policy"] == POLICY
        links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert len(links) == 5
        for link in links:
            assert (await client.get(f"/docs/{link}")).status_code == 200, link


async def test_the_docs_ask_no_other_server_and_hold_no_script_of_their_own() -> None:
    async with client_of(sample_app(CLOSED)) as client:
        page = (await client.get("/docs/")).text
    assert "//" not in page.replace("<!doctype", "")
    assert re.findall(r"<script[^>]*>([^<]+)</script>", page) == []
    assert "unsafe" not in POLICY


async def test_docs_without_the_slash_lead_there() -> None:
    async with client_of(sample_app(CLOSED)) as client:
        answer = await client.get("/docs")
        assert (answer.status_code, answer.headers["location"]) == (307, "docs/")
        assert (await client.get("/docs", follow_redirects=True)).url.path == "/docs/"


@pytest.mark.parametrize(
    "path", ["/docs/../app.py", "/docs/%2e%2e/%2e%2e/app.py", "/docs/..%2f..%2fapp.py", "/docs/nothing"]
)
async def test_nothing_else_of_the_package_is_served(path: str) -> None:
    async with client_of(sample_app(CLOSED)) as client:
        assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize(("checksum", "name"), SUMS)
def test_the_third_partys_files_are_unchanged(checksum: str, name: str) -> None:
    assert hashlib.sha256((FOLDER / "swagger-ui" / name).read_bytes()).hexdigest() == checksum


def test_all_of_the_third_partys_files_are_listed() -> None:
    present = {path.name for path in (FOLDER / "swagger-ui").iterdir()} - {"README.md", "SHA256SUMS"}
    assert present == {name for _, name in SUMS}
    assert {"LICENSE", "NOTICE"} <= present


async def test_the_openapi_describes_every_route_with_its_roles_and_its_problems() -> None:
    app = sample_app(CLOSED)
    async with client_of(app) as client:
        schema = (await client.get("/openapi.json")).json()
    assert schema["openapi"].startswith("3.1")
    described = {(method, path) for path, operations in schema["paths"].items() for method in operations}
    assert ("get", "/healthz") in described
    assert ("delete", "/orders/{order_id}") in described
    for operations in schema["paths"].values():
        for operation in operations.values():
            assert operation["x-roles"]
            problem = operation["responses"]["default"]["content"]["application/problem+json"]["schema"]
            assert problem == {"$ref": "#/components/schemas/Problem"}
    assert "HTTPValidationError" not in schema["components"]["schemas"]


async def test_the_openapi_says_how_to_show_what_one_may() -> None:
    paths = sample_app(CLOSED).openapi()["paths"]
    assert paths["/menu"]["get"]["security"] == []
    assert paths["/orders"]["post"]["security"] == [{}, {"token": []}]
    assert paths["/orders/{order_id}"]["get"]["security"] == [{"token": []}, {"orderKey": []}]
    assert paths["/orders/{order_id}"]["delete"]["security"] == [{"token": []}]
    assert paths["/metrics"]["get"]["security"] == [{"token": []}, {"metricsToken": []}]


def test_each_operation_has_a_name_of_its_own() -> None:
    paths = sample_app(CLOSED).openapi()["paths"]
    names = [operation["operationId"] for operations in paths.values() for operation in operations.values()]
    assert len(set(names)) == len(names)
    assert "delete_orders_order_id" in names
