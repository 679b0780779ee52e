"""Amounts of ingredients: grams or pieces, exact. Pure.

As JSON has it, an amount with a point is a weight in grams, and one without is a number of units: `8.0` and `8` differ,
here and in storage.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

Unit = Literal["g", "pcs"]
GRAMS: Unit = "g"
PIECES: Unit = "pcs"
# Ten tonnes, or as many eggs; and a microgram.
LARGEST, SMALLEST = Decimal(10_000_000), Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Amount:
    value: Decimal
    unit: Unit

    def times(self, factor: int) -> "Amount":
        return Amount(self.value * factor, self.unit)

    def plus(self, other: "Amount") -> "Amount":
        return Amount(self.value + other.value, self.unit)

    @property
    def number(self) -> float | int:
        """As JSON shows it: with a point if it is a weight."""
        return float(self.value) if self.unit == GRAMS else int(self.value)

    @property
    def words(self) -> str:
        """For people: without zeros that say nothing."""
        return f"{self.value.normalize():f} {self.unit}"


def read_amount(given: object) -> Amount:
    """Of a JSON number. Raises ValueError."""
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise ValueError("must be a number: grams with a point (33.5), pieces without (2)")  # noqa: TRY004  pydantic's
    if not math.isfinite(given):
        raise ValueError("must be finite")
    # the shortest decimal that is this number: what was written
    value = Decimal(repr(given))
    if not SMALLEST <= value <= LARGEST:
        raise ValueError(f"must be more than 0, and {LARGEST:,} at most")
    return Amount(value, PIECES if isinstance(given, int) else GRAMS)


class _AsNumber:
    """Has pydantic read a JSON number as an amount, and say so in the description of the API."""

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            read_amount, serialization=core_schema.plain_serializer_function_ser_schema(lambda amount: amount.number)
        )

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "number", "minimum": float(SMALLEST), "maximum": int(LARGEST)}


JsonAmount = Annotated[Amount, _AsNumber()]
Line = tuple[str, Amount]


def needed(recipe: Iterable[Line], *, eaters: int, extras: Iterable[Line]) -> list[Line]:
    """What an order needs: the recipe, which is for one eater, times so many, and the extras once."""
    return total([*((name, amount.times(eaters)) for name, amount in recipe), *extras])


def total(lines: Iterable[Line]) -> list[Line]:
    """Summed by ingredient and unit, in the order of their first mention. One in two units has two lines."""
    sums: dict[tuple[str, str], Amount] = {}
    for name, amount in lines:
        key = (name, amount.unit)
        sums[key] = sums[key].plus(amount) if key in sums else amount
    return [(name, amount) for (name, _), amount in sums.items()]


def as_json(lines: Iterable[Line]) -> list[dict[str, Any]]:
    return [{"name": name, "quantity": amount.number, "unit": amount.unit} for name, amount in lines]


def as_recipe(lines: Iterable[Line]) -> Mapping[str, float | int]:
    return {name: amount.number for name, amount in lines}
