import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect

from orderup.web.metrics import Metrics
from tests.web.sample import CLOSED, KEY, LAPTOP, client_of, sample_app, serving


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def requests(text: str) -> dict[tuple[str, str, str], float]:
    return {
        (labels["method"], labels["route"], labels["status"]): value
        for (name, pairs), value in samples(text).items()
        if name == "orderup_http_requests_total"
        for labels in [dict(pairs)]
    }


async def test_requests_are_counted_by_the_routes_template() -> None:
    async with client_of(sample_app(LAPTOP, prefix="/sample")) as client:
        for order in ("x1", "x2", "x3"):
            await client.get(f"/sample/orders/{order}")
        await client.head("/sample/menu")
        await client.put("/sample/menu")
        await client.post("/sample/orders", json={})
        await client.get("/sample/fail/crash")
        answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert requests(answer.text) == {
        ("GET", "/sample/orders/{order_id}", "200"): 3,
        ("HEAD", "/sample/menu", "200"): 1,
        ("PUT", "/sample/menu", "405"): 1,
        ("POST", "/sample/orders", "422"): 1,
        ("GET", "/sample/fail/{how}", "500"): 1,
    }
    assert (
        samples(answer.text)[
            "orderup_http_request_seconds_count",
            frozenset({"app": "back", "method": "GET", "route": "/sample/orders/{order_id}"}.items()),
        ]
        == 3
    )


async def test_whatever_is_asked_for_the_number_of_series_stays_small() -> None:
    async with client_of(sample_app(LAPTOP)) as client:
        for n in range(50):
            await client.get(f"/nothing/{n}")
            await client.request(f"METHOD{n}", f"/nothing/{n}")
        answer = await client.get("/metrics")
    assert requests(answer.text) == {("GET", "(none)", "404"): 50, ("other", "(none)", "404"): 50}


async def test_open_sockets_are_counted() -> None:
    metrics = Metrics()
    labels = {"app": "back", "route": "/orders/{order_id}/live"}

    async def open_now() -> float | None:
        text, _ = await metrics.read()
        return samples(text.decode()).get(("orderup_websockets", frozenset(labels.items())))

    async with serving(sample_app(CLOSED, metrics=metrics), CLOSED) as port:
        url = f"ws://127.0.0.1:{port}/orders/x1/live?key={KEY.text}"
        async with connect(url) as socket:
            await socket.recv()
            await socket.wait_closed()
    assert await open_now() == 0


async def test_who_has_more_to_tell_is_asked_before_each_reading() -> None:
    asked = 0

    async def refresh() -> None:
        nonlocal asked
        asked += 1

    metrics = Metrics(refresh=refresh)
    async with client_of(sample_app(LAPTOP, metrics=metrics)) as client:
        await client.get("/metrics")
        await client.get("/metrics")
    assert asked == 2


@pytest.mark.parametrize("kind", ["orderup_http_requests", "orderup_http_request_seconds", "orderup_websockets"])
async def test_each_figure_says_what_it_is(kind: str) -> None:
    text, _ = await Metrics().read()
    families = {family.name: family.documentation for family in text_string_to_metric_families(text.decode())}
    assert families[kind].endswith(".")
