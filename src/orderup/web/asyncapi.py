"""What the shops publish, described as AsyncAPI 3.0: a channel for each exchange and routing key, with its message."""

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import msgspec
from fastapi import Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from orderup.model.delivery import Publication
from orderup.shop import Shop
from orderup.web.app import Json
from orderup.web.auth import OPEN
from orderup.web.pages.site import site_of
from orderup.web.routes import Router

router = Router(tags=["server"])
SCHEMA = "#/components/schemas/{name}"


class CloudEvent(BaseModel):
    """CloudEvents 1.0, structured."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: str
    datacontenttype: str
    data: dict[str, Any]


class AsyncApi(BaseModel):
    model_config = ConfigDict(extra="allow")

    asyncapi: str
    channels: dict[str, Any]
    operations: dict[str, Any]
    components: dict[str, Any]


@router.get(
    "/asyncapi.json", response_model=AsyncApi, dependencies=[OPEN], summary="What goes to RabbitMQ, as AsyncAPI"
)
async def get_asyncapi(request: Request) -> Response:
    return Json(describe(site_of(request).shops))


def describe(shops: Sequence[Shop]) -> Mapping[str, Any]:
    """Of what these shops publish."""
    published = [(shop, publication) for shop in shops for publication in shop.publications]
    channels = {_name(*each): _channel(*each) for each in published}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "orderup", "version": version("orderup")},
        "channels": channels,
        "operations": {
            f"send_{name}": {"action": "send", "channel": {"$ref": f"#/channels/{name}"}} for name in channels
        },
        "components": {
            "messages": {_name(*each): _message(each[1]) for each in published},
            "schemas": dict(_schemas([publication for _, publication in published])),
        },
    }


def _name(shop: Shop, publication: Publication) -> str:
    return f"{shop.name}_{publication.routing_key or publication.exchange}".replace(".", "_")


def _channel(shop: Shop, publication: Publication) -> Mapping[str, Any]:
    exchange = {"name": publication.exchange, "type": "topic", "durable": True, "autoDelete": False}
    return {
        "address": publication.routing_key,
        "messages": {"message": {"$ref": f"#/components/messages/{_name(shop, publication)}"}},
        "bindings": {"amqp": {"is": "routingKey", "exchange": exchange, "bindingVersion": "0.3.0"}},
    }


def _message(publication: Publication) -> Mapping[str, Any]:
    about = ", ".join(sorted(publication.events))
    payload: Mapping[str, Any] = {"type": "object"}
    if publication.shape is None:
        payload = {"$ref": SCHEMA.format(name="CloudEvent")}
    elif publication.body is not None:
        payload = {"$ref": SCHEMA.format(name=publication.body.__name__)}
    return {
        "summary": f"Sent at {about}. Its message_id is the same however often it comes.",
        "contentType": publication.content_type,
        "payload": payload,
    }


def _schemas(publications: Sequence[Publication]) -> Iterator[tuple[str, Any]]:
    bodies = [each.body for each in publications if each.body is not None]
    _, found = msgspec.json.schema_components(bodies, ref_template=SCHEMA)
    yield from found.items()
    if any(each.shape is None for each in publications):
        yield "CloudEvent", CloudEvent.model_json_schema()
