"""Lists by cursor: where the next page begins, as digits that nobody needs to understand."""

from typing import Annotated

from fastapi import Query

from orderup.engine.engine import Engine
from orderup.web.tokens import Caller

_NUMBER = "[0-9]{1,19}"
_LARGEST = (1 << 63) - 1
_CURSOR = "`cursor` of the page before; left out: the first page"

Limit = Annotated[int, Query(ge=1, le=500)]
ShopFilter = Annotated[str | None, Query(max_length=100)]
# Of a list in the order of one number, or of two.
CursorFilter = Annotated[str | None, Query(pattern=f"^{_NUMBER}$", description=_CURSOR)]
PairCursorFilter = Annotated[str | None, Query(pattern=f"^{_NUMBER}-{_NUMBER}$", description=_CURSOR)]


def show_cursor(*position: int) -> str:
    return "-".join(map(str, position))


def read_cursor(text: str | None) -> tuple[int, ...] | None:
    """As the filter's pattern has let it through. A number too large to be anybody's stands after everybody's."""
    return None if text is None else tuple(min(int(part), _LARGEST) for part in text.split("-"))


def shop_of(engine: Engine, caller: Caller, wanted: str | None) -> list[str]:
    """The shops a list is about: the one that was asked for, as far as the caller may look."""
    shops = list(engine.kinds) if wanted is None else [wanted]
    return [shop for shop in shops if shop in engine.kinds and caller.may_enter(shop)]
