"""The contract of what goes to RabbitMQ, as AsyncAPI."""

import msgspec

from orderup import Shop
from orderup.cli.shops import load_shops
from orderup.web.asyncapi import describe


class Note(msgspec.Struct):
    """What a message of this test holds."""

    text: str


def test_each_publication_is_a_channel_with_its_message() -> None:
    shop = Shop("workshop")
    shop.publish("notes", routing_key="note.made", events=["operation.completed"], shape=lambda *_: [], body=Note)
    shop.publish("plain", routing_key="plain", events=["operation.placed"])
    told = describe([shop])
    channel = told["channels"]["workshop_note_made"]
    assert channel["address"] == "note.made"
    assert channel["bindings"]["amqp"]["exchange"]["name"] == "notes"
    messages = told["components"]["messages"]
    assert messages["workshop_note_made"]["payload"] == {"$ref": "#/components/schemas/Note"}
    assert messages["workshop_note_made"]["contentType"] == "application/json"
    assert messages["workshop_plain"]["payload"] == {"$ref": "#/components/schemas/CloudEvent"}
    assert messages["workshop_plain"]["contentType"] == "application/cloudevents+json"
    assert told["components"]["schemas"]["Note"]["properties"] == {"text": {"type": "string"}}
    assert {"specversion", "id", "data"} <= told["components"]["schemas"]["CloudEvent"]["properties"].keys()


def references(told: object) -> set[str]:
    if isinstance(told, dict):
        own = {told["$ref"]} if isinstance(told.get("$ref"), str) else set()
        return own.union(*map(references, told.values()))
    return set().union(*map(references, told)) if isinstance(told, list) else set()


def test_every_reference_leads_somewhere() -> None:
    told = msgspec.to_builtins(describe(load_shops([])))
    found = references(told)
    assert found
    for reference in found:
        place = told
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


def test_amounts_are_numbers_and_moments_say_so() -> None:
    schemas = describe(load_shops(["mealbox"]))["components"]["schemas"]
    assert schemas["SavedOrder"]["properties"]["total_amount"]["type"] == "number"
    assert schemas["SavedOrder"]["properties"]["created_at"]["format"] == "date-time"
    assert schemas["CreatedOrder"]["properties"]["payload"] == {"$ref": "#/components/schemas/Payload"}
