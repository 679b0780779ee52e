"""What schemathesis loads beside the description it is given."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import schemathesis

from orderup.shops.bakery.front import LONGEST_NAME, read_ingredients, read_name
from orderup.shops.bakery.lines import LONGEST_TEXT, read_lines
from orderup.web.idempotency import HEADER, KEY_PATTERN, LONGEST_KEY
from orderup.web.pages.route import FORM_TYPE

LONGEST_WAIT_SECONDS = 0.02


@schemathesis.hook
def before_call(_context: schemathesis.HookContext, case: "schemathesis.Case[Any]", _options: dict[str, Any]) -> None:
    """A claim that may wait waits hardly at all: a run has better to do than to stand in line. A good key is another
    one for another request: that the same one is refused, 422, no description can say."""
    headers: Any = case.headers or {}
    request = json.dumps([case.method, case.path, case.path_parameters, case.body], default=str, sort_keys=True)
    headers.update(own_key(headers, HEADER, request))
    body = case.body
    if not isinstance(body, dict):
        return
    if case.media_type == FORM_TYPE:
        case.body = {**body, **own_key(body, "key", request)}
    if case.path.startswith("/bakery/"):
        as_sent: Any = case.body
        case.body = body = {name: readable(name, value) for name, value in as_sent.items()}
    wait = body.get("wait")
    if isinstance(wait, int | float) and not isinstance(wait, bool) and LONGEST_WAIT_SECONDS < wait <= 60:
        case.body = {**body, "wait": LONGEST_WAIT_SECONDS}


# What no schema can say: that a name can be spelled, that lines are ingredients, each once.
READ: Mapping[str, Callable[[str], object]] = {
    "customer": read_name,
    "name": read_name,
    "extras": read_lines,
    "ingredients": partial(read_lines, least=1),
}
GOOD = {"customer": "Ann", "name": "Nut Cake", "extras": "nuts 3 pcs", "ingredients": "nuts 3 pcs"}
LONGEST = {"customer": LONGEST_NAME, "name": LONGEST_NAME, "extras": LONGEST_TEXT, "ingredients": LONGEST_TEXT}


def readable(name: str, value: Any) -> Any:
    """A text of the bakery's, or a recipe, that its description allows, and that is one."""
    if isinstance(value, dict) and name in {"ingredients", "extra_ingredients"}:
        return value if are_names(value) else {f"nut {number}": each for number, each in enumerate(value.values())}
    if name not in READ or not isinstance(value, str) or not 0 < len(value) <= LONGEST[name]:
        return value
    try:
        READ[name](value)
    except ValueError:
        return GOOD[name]
    return value


def are_names(ingredients: Mapping[str, Any]) -> bool:
    try:
        read_ingredients(ingredients)
    except ValueError:
        return False
    return True


def own_key(fields: Any, name: str, request: str) -> dict[str, str]:
    key = fields.get(name)
    if not isinstance(key, str) or len(key) > LONGEST_KEY or not re.search(KEY_PATTERN, key):
        return {}
    return {name: f"{key[:200]}-{hashlib.sha256(request.encode()).hexdigest()[:16]}"}
