"""What schemathesis loads beside the description it is given."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import schemathesis
from pydantic import ValidationError

from orderup.errors import Invalid
from orderup.integrations.dsp import LONGEST_ID
from orderup.shops.bakery.front import EMAIL, LONGEST_EMAIL, LONGEST_NAME, read_email, read_ingredients, read_name
from orderup.shops.bakery.lines import LONGEST_TEXT, read_lines
from orderup.shops.campaigns.campaign import parse_campaign
from orderup.shops.campaigns.campaigns_api import CAMPAIGN, CampaignBody
from orderup.shops.campaigns.tasks import LARGEST_ID
from orderup.web.idempotency import HEADER, KEY_PATTERN, LONGEST_KEY
from orderup.web.pages.route import FORM_TYPE

LONGEST_WAIT_SECONDS = 0.02
SEEN = re.compile(r"[!-~]+")


@schemathesis.hook
def before_call(_context: schemathesis.HookContext, case: "schemathesis.Case[Any]", _options: dict[str, Any]) -> None:
    """A claim that may wait waits hardly at all: a run has better to do than to stand in line. A good key is another
    one for another request: that the same one is refused, 422, no description can say. Where a body ends is said by
    whoever sends it; test_limits.py says it in other ways."""
    headers: Any = case.headers or {}
    for name in [name for name in headers if name.lower() == "transfer-encoding"]:
        del headers[name]
    request = json.dumps([case.method, case.path, case.path_parameters, case.body], default=str, sort_keys=True)
    headers.update(own_key(headers, HEADER, request))
    body = case.body
    if not isinstance(body, dict):
        return
    is_form = case.media_type == FORM_TYPE
    if is_form:
        case.body = {**body, **own_key(body, "key", request)}
    if case.path.startswith("/bakery/"):
        as_sent: Any = case.body
        case.body = body = {name: readable(name, value, is_form=is_form) for name, value in as_sent.items()}
    if case.path.startswith("/campaigns/"):
        case.body = body = possible(case.path, body, request)
    wait = body.get("wait")
    if isinstance(wait, int | float) and not isinstance(wait, bool) and LONGEST_WAIT_SECONDS < wait <= 60:
        case.body = {**body, "wait": LONGEST_WAIT_SECONDS}


# What no schema can say: that a name can be spelled, an address written to, that lines are ingredients, each once.
READ: Mapping[str, Callable[[str], object]] = {
    "customer": read_name,
    "name": read_name,
    "email": lambda text: read_email(text) if re.search(EMAIL, text) else text,
    "extras": read_lines,
    "ingredients": partial(read_lines, least=1),
}
GOOD = {"customer": "Ann", "name": "Nut Cake", "extras": "nuts 3 pcs", "ingredients": "nuts 3 pcs"}
GOOD["email"] = "ann@example.com"
LONGEST = {"customer": LONGEST_NAME, "name": LONGEST_NAME, "extras": LONGEST_TEXT, "ingredients": LONGEST_TEXT}
LONGEST["email"] = LONGEST_EMAIL


def readable(name: str, value: Any, *, is_form: bool) -> Any:
    """A text of the bakery's, or a recipe, that its description allows, and that is one. is_form: spaces around it
    do not count."""
    if isinstance(value, dict) and name in {"ingredients", "extra_ingredients"}:
        return value if are_names(value) else {f"nut {number}": each for number, each in enumerate(value.values())}
    if name not in READ or not isinstance(value, str) or not 0 < len(value) <= LONGEST[name]:
        return value
    try:
        READ[name](value.strip() if is_form else value)
    except ValueError:
        return GOOD[name]
    return value


def are_names(ingredients: Mapping[str, Any]) -> bool:
    try:
        read_ingredients(ingredients)
    except ValueError:
        return False
    return True


def possible(path: str, body: Any, request: str) -> Any:
    """What the campaign desk is told that its description allows, and that may be so: whose dates are dates, of which
    the platform's id can be seen."""
    match body:
        case {"ad_groups": _} if is_refused(body):
            return {**CAMPAIGN, "campaign_id": hashlib.sha256(request.encode()).hexdigest()}
        case {"platform_id": str(id)} if path.endswith("/settle") and len(id) <= LONGEST_ID and not SEEN.fullmatch(id):
            return {**body, "platform_id": "c-17"}
        case {"is_there": "yes"} if "platform_id" not in body:
            return {**body, "platform_id": "c-17"}
        case {"id": int(id)} if float(id) == float(LARGEST_ID):
            return {**body, "id": LARGEST_ID}  # schemathesis takes all these for one number
    return body


def is_refused(body: Any) -> bool:
    """Whether it is a campaign as the description has it, but for what no schema says."""
    try:
        parse_campaign(CampaignBody.model_validate(body).model_dump())
    except ValidationError:
        return False
    except Invalid:
        return True
    return False


def own_key(fields: Any, name: str, request: str) -> dict[str, str]:
    key = fields.get(name)
    if not isinstance(key, str) or len(key) > LONGEST_KEY or not re.search(KEY_PATTERN, key):
        return {}
    return {name: f"{key[:200]}-{hashlib.sha256(request.encode()).hexdigest()[:16]}"}
