"""Every endpoint of both apps fuzzed from its OpenAPI by schemathesis, with all its checks, by three roles.

The server is a process of its own with some orders, RFAs and claimed tasks in it, and the sandbox beside it; where the
description has room for any id, shop, token or product, schemathesis is told which there are, so that it comes further
than to a 404. What it says when
it finds something holds the request as a curl command and the seed of the run.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest

from orderup.shops.campaigns.campaigns_api import CAMPAIGN
from orderup.shops.campaigns.import_pages import sample
from orderup.web.pages.route import FORM_TYPE
from orderup.web.tokens import Role
from tests.serving import ROOT, ServerProcess, sqlite_url
from tests.web.endpoints import BOX, CAKE, EMPLOYEE, METHODS, PIZZA
from tests.web.house import SECRET, token_of

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
# More for a night: ORDERUP_FUZZ_EXAMPLES=2000 python -m pytest tests/web/test_fuzz.py
EXAMPLES = int(os.environ.get("ORDERUP_FUZZ_EXAMPLES", "20"))
ROLES = (Role.STAFF, Role.WORKER, Role.CUSTOMER)
TOOK_TOO_LONG_SECONDS = 100 + 10 * EXAMPLES
ORDERS = 12
# One that is complete, one that is asked for and one that is tried again.
BOXES = ("classic-box", "family-box", "veggie-box")
CONFIGURATION = """
[checks]
enabled = true

# Told to leave Authorization out, it sends it all the same, as it was told to send it always; test_every_endpoint.py
# leaves it out.
missing_required_header.enabled = false

[generation]
# NUL in a text is refused, which JSON Schema has no word for; test_bodies.py sends it.
allow-x00 = false

# Whoever shows the wrong key or token of an order is told that there is none, 404: not that there is one.
[[operations]]
include-path-regex = "^/(pizza/pizzas|(mealbox|bakery)/orders|(pizza|mealbox|bakery)/(track|cancel))/"
checks.ignored_auth.enabled = false

[[operations]]
include-path-regex = "^/campaigns/campaigns/"
checks.ignored_auth.enabled = false

# By its method a request there is about a campaign, which is never called so.
[[operations]]
include-path-regex = "^/campaigns/campaigns/imports?$"
checks.unsupported_method.enabled = false
checks.allow_header_conformance.enabled = false

# Whether a file holds campaigns, no schema can say.
[[operations]]
include-path-regex = "^/campaigns/(campaigns/import|imports)$"
checks.positive_data_acceptance.enabled = false
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("fuzz")
    environment = {
        "SECRET_KEY": SECRET.get_secret_value(),
        "PYTHONPATH": str(ROOT),
        # that there is no such product is answered to whoever waits for it
        "MEALBOX_WAIT_SECONDS": "15",
    }
    with ServerProcess(
        *("pizza", "mealbox", "bakery", "campaigns", "tests.web.house:shop"),
        folder=folder,
        database_url=sqlite_url(folder),
        options=["--sandbox-port", "0"],
        environment=environment,
    ) as server:
        yield server.start()


class There:
    """What is there for an endpoint to be about."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.orders = [self._order("/pizza/pizzas", PIZZA) for _ in range(ORDERS)]
        self.boxes = [self._order("/mealbox/orders", {**BOX, "product_code": code}) for code in BOXES]
        self.cakes = [self._cake(f"Cake {number}") for number in range(ORDERS)]
        cake = {"customer": "Ann", "recipe": self.cakes[0], "persons": 4}
        self.cake_orders = [str(self._order("/bakery/orders", cake)) for _ in range(ORDERS)]
        self.employees = [str(self._hire()) for _ in range(ORDERS)]
        self.campaigns = [self._campaign(f"spring-{number}") for number in range(ORDERS)]
        self.imports = [self._import() for _ in range(ORDERS)]
        self.client_tasks = [self._client_task() for _ in range(ORDERS)]
        for id in self.orders[: ORDERS // 2]:
            self._post("back", f"/api/rfas/{id}/approve", role=Role.STAFF, body={})
        ask = {"worker": "w1", "shop": "pizza", "tasks": ["make_dough"], "region": "eu-west-3", "max": 4}
        held = self._post("back", "/api/work/claim", role=Role.WORKER, body=ask)["tasks"]
        assert len(held) == 4
        self.held, self.tokens = [task["id"] for task in held], [task["token"] for task in held]

    def _order(self, path: str, wish: Mapping[str, object]) -> str:
        id: str = self._post("front", path, role=Role.CUSTOMER, body=wish)["id"]
        return id

    def _cake(self, name: str) -> str:
        id: str = self._post("front", "/bakery/cakes", role=Role.STAFF, body={**CAKE, "name": name})["id"]
        return id

    def _hire(self) -> int:
        id: int = self._post("front", "/bakery/employees", role=Role.ADMIN, body=EMPLOYEE)["id"]
        return id

    def _campaign(self, name: str) -> str:
        body = {**CAMPAIGN, "campaign_id": name}
        id: str = self._post("front", "/campaigns/campaigns", role=Role.STAFF, body=body)["id"]
        return id

    def _import(self) -> str:
        file = {"content": sample(), "headers": {"Content-Type": "text/csv"}}
        id: str = self._post("front", "/campaigns/campaigns/import", role=Role.STAFF, **file)["id"]
        return id

    def _client_task(self) -> int:
        body = {"status": "Not Started"}
        id: int = self._post("front", "/campaigns/api/tasks", role=Role.CUSTOMER, body=body)["task"]["id"]
        return id

    def _post(self, app: str, path: str, *, role: Role, body: Any = None, **sent: Any) -> Any:
        url = f"{getattr(self.server, app)}{path}"
        headers = {"Authorization": f"Bearer {token_of(role)}", "Prefer": "respond-async", **sent.pop("headers", {})}
        answer = httpx2.post(url, headers=headers, **({"json": body, **sent} if body is not None else sent))
        assert answer.is_success, answer.text
        return answer.json()

    def ids(self, path: str) -> Sequence[str | int]:
        """What `{id}` in this path may be."""
        if path.startswith("/api/work/"):
            return self.held
        if path.startswith("/api/tasks/"):
            return [f"{id}-{position}" for id in self.orders for position in range(4)]
        found: Sequence[tuple[str, Sequence[str | int]]] = (
            ("/mealbox/", self.boxes),
            ("/bakery/cakes/", self.cakes),
            ("/bakery/employees/", self.employees),
            ("/bakery/people/", self.employees),
            ("/bakery/", self.cake_orders),
            ("/campaigns/api/tasks/", self.client_tasks),
            ("/campaigns/campaigns/imports/", self.imports),
            ("/campaigns/imports/", self.imports),
            ("/campaigns/", self.campaigns),
        )
        return next((ids for beginning, ids in found if path.startswith(beginning)), self.orders)

    def told(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """The description, with what there is where it leaves room for anything."""
        told: dict[str, Any] = json.loads(json.dumps(schema))
        names = {"shop": ["workshop"], "kind": ["saw", "paint", "polish"], "name": ["nightly"]}
        names |= {"number": self.cake_orders, "task_id": [f"{id}-0" for id in self.campaigns]}
        for path, operations in told["paths"].items():
            # any name that it writes may be that of a cake which it wrote before
            if path.startswith(("/bakery/cakes/", "/bakery/recipes/", "/bakery/order/{cake}")):
                continue
            for operation in (operations[method] for method in METHODS if method in operations):
                for parameter in operation.get("parameters", ()):
                    if parameter["in"] == "path":
                        parameter["schema"]["enum"] = names.get(parameter["name"]) or self.ids(path)
        self._tell_bodies(told, kinds=names["kind"])
        return told

    def _tell_bodies(self, told: Any, *, kinds: list[str]) -> None:
        bodies = told["components"]["schemas"]
        for box in boxes_in(told):
            for name, known in BOX.items():
                box["properties"][name]["enum"] = [known]
        for body in bodies.values():
            if set(body.get("properties", {})) >= {"token"}:
                body["properties"]["token"]["enum"] = self.tokens
            if set(body.get("properties", {})) >= {"recipe", "persons"} and "status" not in body["properties"]:
                body["properties"]["recipe"]["enum"] = self.cakes[:1]
        if claim := bodies.get("PollBody"):
            claim["properties"]["shop"]["enum"] = ["workshop"]
            claim["properties"]["tasks"]["items"] = {"enum": kinds}


def boxes_in(schema: Mapping[str, Any]) -> list[Any]:
    """The bodies that order a meal box: as JSON, and as a form."""
    if "/mealbox/" not in schema["paths"]:
        return []  # the back
    form = schema["paths"]["/mealbox/"]["post"]["requestBody"]["content"][FORM_TYPE]["schema"]
    body = schema["paths"]["/mealbox/orders"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return [form, schema["components"]["schemas"][body["$ref"].rpartition("/")[2]]]


@pytest.fixture(scope="module")
def there(server: ServerProcess) -> There:
    return There(server)


@pytest.mark.timeout(TOOK_TOO_LONG_SECONDS)
@pytest.mark.parametrize("app", ["front", "back"])
@pytest.mark.parametrize("role", ROLES)
def test_no_request_breaks_the_server_or_what_it_says_of_itself(
    server: ServerProcess, there: There, tmp_path: Path, app: str, role: Role
) -> None:
    url: str = getattr(server, app)
    schema = there.told(httpx2.get(f"{url}/openapi.json").json())
    (tmp_path / "openapi.json").write_text(json.dumps(schema))
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    run = subprocess.run(
        [SCHEMATHESIS, "run", "openapi.json", *options(url, schema, role)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.web.fuzz_hooks"},
        capture_output=True,
        text=True,
        timeout=TOOK_TOO_LONG_SECONDS,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr
    assert "Seed: " in run.stdout
    assert server.runs
    assert crashes(server) == []


def options(url: str, schema: Mapping[str, Any], role: Role) -> list[str]:
    streams = [path for path, operations in schema["paths"].items() if is_stream(operations.get("get", {}))]
    return [
        *("--url", url),
        *("--header", f"Authorization: Bearer {token_of(role, 'ann')}"),
        *("--max-examples", str(EXAMPLES)),
        *("--phases", "examples,coverage,fuzzing"),
        *("--suppress-health-check", "all"),
        *("--warnings", "off"),
        *("--request-timeout", "20"),
        "--continue-on-failure",
        # Their answers do not end; test_bodies.py asks them for what they cannot read.
        *(part for path in streams for part in ("--exclude-path", path)),
    ]


def is_stream(operation: Mapping[str, Any]) -> bool:
    return "text/event-stream" in operation.get("responses", {}).get("200", {}).get("content", {})


def crashes(server: ServerProcess) -> list[str]:
    """What it logged of itself: a crash is logged, whoever it was told to."""
    return [line for line in server.printed().splitlines() if tells_of_a_crash(line)]


def tells_of_a_crash(line: str) -> bool:
    """A path or a name in it may say anything."""
    try:
        told = json.loads(line)
        return "crashed" in told["event"] or "exception" in told
    except (ValueError, KeyError, TypeError):
        return "crashed" in line or "Traceback" in line
