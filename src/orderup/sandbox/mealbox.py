"""The two services that the meal-box shop asks: one knows products, the other users. Both are faulty on purpose.

Like some that they stand in for, they answer only requests that say `Content-Type: application/json`.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from orderup.sandbox.behaviour import Answer
from orderup.sandbox.collection import Collection, Thing
from orderup.sandbox.ledger import Ledger


class Product(Thing):
    name: str = Field(min_length=1, max_length=200)
    price: float = Field(ge=0, le=1e9)

    def honest(self, id: str) -> dict[str, Any]:
        return {"code": id, "name": self.name, "price": self.price}

    @property
    def title(self) -> str:
        return f"{self.name}, {self.price:.2f}"


class User(Thing):
    first_name: str = Field(alias="firstName", max_length=200)
    last_name: str = Field(alias="lastName", max_length=200)

    def honest(self, id: str) -> dict[str, Any]:
        return {"id": id, "firstName": self.first_name, "lastName": self.last_name}

    @property
    def title(self) -> str:
        return f"{self.first_name} {self.last_name}"


PRODUCTS = {
    "classic-box": Product(name="Classic Box", price=9.99, delay_seconds=0.2),
    "family-box": Product(name="Family Box", price=24.5, delay_seconds=60),
    "veggie-box": Product(name="Veggie Box", price=11.25, delay_seconds=0.2, status=500),
}
USERS = {
    "7c11e1ce2741": User(firstName="Ada", lastName="Lovelace", delay_seconds=0.3),
    "e6f24d7d1c7e": User(
        firstName="Grace", lastName="Hopper", delay_seconds=0.3, status=500, alternate=Answer(delay_seconds=0.3)
    ),
}


class Mealbox:
    """`scale`: by how much every delay is divided."""

    name = "mealbox"
    title = "The meal-box shop's products and users"

    def __init__(self, *, scale: float) -> None:
        self.ledger = Ledger()
        self.products = Collection("products", "product", Product, PRODUCTS, ledger=self.ledger, scale=scale)
        self.users = Collection("users", "user", User, USERS, ledger=self.ledger, scale=scale)
        self.collections: Sequence[Collection[Any]] = (self.products, self.users)

    def routes(self) -> list[Route]:
        switched = [route for collection in self.collections for route in collection.routes()]
        return [Route("/requests", self._requests, methods=["GET"]), *switched]

    async def _requests(self, _request: Request) -> JSONResponse:
        return JSONResponse(self.ledger.as_json())
