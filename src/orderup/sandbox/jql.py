"""As much of JQL as the stand-in for Jira knows: clauses joined by AND, and an order.

    project = "BAKE" AND labels = "x" AND statusCategory = Done AND updated >= -1d ORDER BY created ASC

Everything else is refused, as Jira refuses what it cannot read: so a string that ends too early is found out.
"""

import re
from dataclasses import dataclass
from datetime import timedelta

TOKEN = re.compile(
    r"\s*(?:"
    r'"(?P<quoted>(?:[^"\\\n\r]|\\[^\n\r])*)"'
    r"|(?P<operator>=|>=)"
    r"|(?P<word>[A-Za-z0-9_.-]+)"
    r")\s*"
)
ESCAPE = re.compile(r"\\(.)")
ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}
FIELDS = {"project": "=", "labels": "=", "statuscategory": "=", "updated": ">="}
ORDERS = frozenset({"created", "updated"})


class Unreadable(ValueError):
    pass


@dataclass(frozen=True, slots=True)
class Query:
    """`wanted`: pairs of a field, in lower case, and what it has to be. since: how long ago it may have changed."""

    wanted: tuple[tuple[str, str], ...]
    since: timedelta | None
    order: str
    is_descending: bool


def read_jql(text: str) -> Query:
    """Raises Unreadable."""
    tokens = _tokens(text)
    wanted: list[tuple[str, str]] = []
    since: timedelta | None = None
    while tokens and not _is(tokens, "order"):
        if wanted or since:
            _expect(tokens, "and")
        field, value = _clause(tokens)
        if field == "updated":
            since = _ago(value)
        else:
            wanted.append((field, value))
    if not wanted and since is None:
        raise Unreadable("Unbounded JQL queries are not allowed here. Please add a search restriction to your query.")
    order, is_descending = _order(tokens)
    return Query(tuple(wanted), since, order, is_descending)


def _tokens(text: str) -> list[tuple[str, str]]:
    found, position = [], 0
    while position < len(text):
        match = TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise Unreadable(f"Error in the JQL Query: the character at {position} cannot be read.")
        found.append((match.lastgroup, match[match.lastgroup]))
        position = match.end()
    return found


def _is(tokens: list[tuple[str, str]], word: str) -> bool:
    return tokens[0][0] == "word" and tokens[0][1].lower() == word


def _expect(tokens: list[tuple[str, str]], word: str) -> None:
    if not tokens or not _is(tokens, word):
        raise Unreadable(f"Error in the JQL Query: expecting {word.upper()!r}.")
    tokens.pop(0)


def _clause(tokens: list[tuple[str, str]]) -> tuple[str, str]:
    if len(tokens) < 3:
        raise Unreadable("Error in the JQL Query: it ends too early.")
    (kind, field), (operator_kind, operator), (value_kind, value) = (tokens.pop(0) for _ in range(3))
    if kind != "word" or operator_kind != "operator" or FIELDS.get(field.lower()) != operator:
        raise Unreadable(f"Field {field!r} with {operator!r} does not exist or you do not have permission to view it.")
    if value_kind == "operator":
        raise Unreadable(f"Error in the JQL Query: {value!r} is no value.")
    return field.lower(), _unescaped(value) if value_kind == "quoted" else value


def _unescaped(value: str) -> str:
    return ESCAPE.sub(lambda match: ESCAPED.get(match[1], match[1]), value)


def _ago(value: str) -> timedelta:
    match = re.fullmatch(r"-([0-9]{1,4})([dhm])", value)
    if match is None:
        raise Unreadable(f"Date value {value!r} for field 'updated' is invalid.")
    count = int(match[1])
    return {"d": timedelta(days=count), "h": timedelta(hours=count), "m": timedelta(minutes=count)}[match[2]]


def _order(tokens: list[tuple[str, str]]) -> tuple[str, bool]:
    if not tokens:
        return "created", True
    _expect(tokens, "order")
    _expect(tokens, "by")
    words = [word.lower() for kind, word in tokens if kind == "word"]
    if len(words) != len(tokens) or not words or words[0] not in ORDERS or words[1:] not in ([], ["asc"], ["desc"]):
        raise Unreadable("Error in the JQL Query: it cannot be ordered so.")
    return words[0], words[1:] == ["desc"]
