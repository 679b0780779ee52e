import json
from typing import Any

import httpx2
import pytest

from tests.shops.pizza.pizzeria import STEPS, Pizzeria, following, read_until

WHOLE_WAY = [
    ("operation.placed", "Request received"),
    ("rfa.approved", "Approved"),
    ("task.started", "Preparing dough"),
    ("task.started", "Adding toppings"),
    ("task.started", "Baking pizza"),
    ("task.started", "Delivering pizza"),
    ("operation.completed", "Delivered. Enjoy your pizza!"),
]


def told(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(message["type"], message["message"]) for message in messages]


def test_the_customer_is_told_of_every_step_as_it_happens(pizzeria: Pizzeria) -> None:
    placed = pizzeria.order()
    with following(placed["links"]["live"]) as messages:
        assert next(messages)["message"] == "Request received"
        pizzeria.approve(placed)
        assert next(messages)["message"] == "Approved"
        for step in STEPS:
            task = pizzeria.claim_one(step)
            assert next(messages)["task"] == step
            pizzeria.answer(task, "complete", result=None)
        assert next(messages)["status"] == "completed"


def test_who_follows_later_reads_it_all_from_the_beginning(pizzeria: Pizzeria) -> None:
    placed = pizzeria.order()
    pizzeria.approve(placed)
    pizzeria.do(*STEPS)
    with following(placed["links"]["live"]) as messages:
        assert told(read_until(messages, "operation.completed")) == WHOLE_WAY


def test_who_comes_back_gets_what_he_missed_and_nothing_twice(pizzeria: Pizzeria) -> None:
    placed = pizzeria.order()
    with following(placed["links"]["live"]) as messages:
        before = [next(messages)]
    pizzeria.approve(placed)
    pizzeria.do(*STEPS)
    with following(f"{placed['links']['live']}?after={before[-1]['seq']}") as messages:
        after = read_until(messages, "operation.completed")
    assert told([*before, *after]) == WHOLE_WAY


def test_server_sent_events_tell_the_same(pizzeria: Pizzeria) -> None:
    placed = pizzeria.order()
    pizzeria.approve(placed)
    pizzeria.do(*STEPS)
    read = []
    with pizzeria.client.stream("GET", placed["links"]["events"]) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data: "):
                read.append(json.loads(line.removeprefix("data: ")))
                if read[-1]["type"] == "operation.completed":
                    break
    assert told(read) == WHOLE_WAY


def test_a_message_has_exactly_its_nine_fields(pizzeria: Pizzeria) -> None:
    placed = pizzeria.order()
    with following(placed["links"]["live"]) as messages:
        message = next(messages)
    fields = ["seq", "n", "at", "type", "operation_id", "shop", "task", "status", "message"]
    assert list(message) == fields
    assert message["operation_id"] == placed["id"]


def test_who_is_declined_reads_the_note(pizzeria: Pizzeria) -> None:
    placed = pizzeria.order()
    with following(placed["links"]["live"]) as messages:
        pizzeria.decide(placed, "decline", notes="We do not deliver to the Moon yet.")
        last = read_until(messages, "rfa.declined")[-1]
    assert last["message"] == "Declined: We do not deliver to the Moon yet."


def test_who_is_not_answered_reads_that_it_expired(hasty_pizzeria: Pizzeria) -> None:
    placed = hasty_pizzeria.order()
    with following(placed["links"]["live"]) as messages:
        assert "Nobody answered" in read_until(messages, "rfa.expired")[-1]["message"]


def test_a_failed_attempt_is_told_as_a_delay_and_its_error_is_not(pizzeria: Pizzeria) -> None:
    placed = pizzeria.order()
    pizzeria.approve(placed)
    with following(placed["links"]["live"]) as messages:
        pizzeria.answer(pizzeria.claim_one(), "fail", error="Mixer at 10.0.0.7 is on fire")
        delay = read_until(messages, "task.retrying")[-1]
        assert delay["message"] == "This takes a little longer than planned: we are doing it once more"
        pizzeria.do(*STEPS)
        rest = read_until(messages, "operation.completed")
    assert [each["message"] for each in rest] == [words for _, words in WHOLE_WAY[2:]]
    assert "fire" not in json.dumps([delay, *rest])


def test_a_failure_for_good_is_told_in_words_for_a_customer(pizzeria: Pizzeria) -> None:
    placed = pizzeria.order()
    pizzeria.approve(placed)
    pizzeria.answer(pizzeria.claim_one(), "fail", error="Out of flour at supplier 12", final=True)
    with following(placed["links"]["live"]) as messages:
        last = read_until(messages, "operation.errored")[-1]
    assert last["message"] == "Something went wrong with your pizza; our staff looks into it"


def test_an_order_on_hold_is_told_of(pizzeria: Pizzeria) -> None:
    placed = pizzeria.order()
    pizzeria.approve(placed)
    for verb in ("pause", "resume"):
        url = f"{pizzeria.server.back}/api/operations/{placed['id']}/{verb}"
        assert pizzeria.client.post(url, json={}).status_code == 200
    with following(placed["links"]["live"]) as messages:
        words = [message["message"] for message in read_until(messages, "operation.resumed")]
    assert words[-2:] == ["Your order is on hold for a moment", "Your order goes on"]


def test_no_event_holds_a_name_an_address_or_a_wish(pizzeria: Pizzeria) -> None:
    placed = pizzeria.order(
        customer="Hypatia", delivery_address="Canopic Way 3", name="Pizza Serapeum", extra_params={"wish": "silphium"}
    )
    pizzeria.approve(placed)
    pizzeria.do(*STEPS)
    seen = staffs_events(pizzeria, placed)
    assert len(seen) > len(WHOLE_WAY)
    for secret in ("Hypatia", "Canopic", "Serapeum", "silphium"):
        assert secret not in json.dumps(seen)


def staffs_events(pizzeria: Pizzeria, placed: dict[str, Any]) -> list[dict[str, Any]]:
    """All there are of this order, up to its end."""
    url = f"{pizzeria.server.back}/api/events?operation={placed['id']}"
    read: list[dict[str, Any]] = []
    with pizzeria.client.stream("GET", url) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: "):
                read.append(json.loads(line.removeprefix("data: ")))
                if read[-1]["type"] == "operation.completed":
                    break
    return read


@pytest.mark.parametrize("after", ["-1", "x", "9223372036854775808"])
def test_an_after_that_is_no_seq_is_refused_by_name(pizzeria: Pizzeria, after: str) -> None:
    placed = pizzeria.order()
    answer: httpx2.Response = pizzeria.client.get(f"{placed['links']['events']}?after={after}")
    assert answer.status_code == 422
    assert [problem["field"] for problem in answer.json()["errors"]] == ["query.after"]
