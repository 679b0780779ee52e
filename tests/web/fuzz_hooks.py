"""What schemathesis loads beside the description it is given."""

import hashlib
import json
import re
from typing import Any

import schemathesis

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
    wait = body.get("wait")
    if isinstance(wait, int | float) and not isinstance(wait, bool) and LONGEST_WAIT_SECONDS < wait <= 60:
        case.body = {**body, "wait": LONGEST_WAIT_SECONDS}


def own_key(fields: Any, name: str, request: str) -> dict[str, str]:
    key = fields.get(name)
    if not isinstance(key, str) or len(key) > LONGEST_KEY or not re.search(KEY_PATTERN, key):
        return {}
    return {name: f"{key[:200]}-{hashlib.sha256(request.encode()).hexdigest()[:16]}"}
