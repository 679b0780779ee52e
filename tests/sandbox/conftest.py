"""A sandbox in the test's own process, and somebody who talks to it as the meal-box shop does."""

from collections.abc import AsyncIterator

import httpx2
import pytest

from orderup.sandbox import Sandbox, serve_sandbox
from tests.services.waiting import PATIENCE_SECONDS

# A minute of life takes 60 ms.
SCALE = 1_000
JSON = {"Content-Type": "application/json"}
# For a slow and busy machine.


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with serve_sandbox(scale=SCALE) as sandbox:
        yield sandbox


@pytest.fixture
async def mealbox(sandbox: Sandbox) -> AsyncIterator[httpx2.AsyncClient]:
    """Of the two services."""
    async with client_of(sandbox) as client:
        yield client


def client_of(sandbox: Sandbox) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=f"{sandbox.base_url}/mealbox", headers=JSON, timeout=PATIENCE_SECONDS)
