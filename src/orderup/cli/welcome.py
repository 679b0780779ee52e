"""What a person who starts a server at a terminal is told: where it is, and how to place a first order."""

import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from typing import Any

JSON_HEADER = "'Content-Type: application/json'"


def is_watched() -> bool:
    """Whether somebody started us at the terminal that we write to, rather than a program, or in the background."""
    try:
        return os.tcgetpgrp(sys.stdout.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return False


def welcome(front_schema: Mapping[str, Any], *, front: str, back: str, asks_for_tokens: bool) -> str:
    """`front_schema`: the OpenAPI of the front; an order's example stands with its body."""
    lines = [
        "",
        f"  customers           {front}    API: {front}/docs/",
        f"  staff and workers   {back}    API: {back}/docs/",
    ]
    orders = list(_orders(front_schema, front))
    if orders:
        bearer = ' -H "Authorization: Bearer $(orderup token staff me)"' if asks_for_tokens else ""
        lines += [
            "",
            "A first order, in another terminal; its answer holds its id:",
            *(f"  {each}" for each in orders),
            "If it waits for approval, approve it, putting its id for ID:",
            f"  curl -s -X POST{bearer} {back}/api/rfas/ID/approve",
        ]
    return "\n".join(
        [*lines, "", "Ctrl-C stops it: what runs may finish, or is handed back. A second one stops it at once."]
    )


def _orders(schema: Mapping[str, Any], front: str) -> Iterator[str]:
    """A command for each route that accepts an order and shows an example of one."""
    for path, operations in schema["paths"].items():
        operation = operations.get("post", {})
        if "202" not in operation.get("responses", {}) or "{" in path:
            continue
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        name = body.get("$ref", "").rpartition("/")[2]
        examples = schema["components"]["schemas"].get(name, {}).get("examples")
        if examples:
            sent = shlex.quote(json.dumps(examples[0], ensure_ascii=False))
            yield f"curl -s {front}{path} -H {JSON_HEADER} -d {sent}"
