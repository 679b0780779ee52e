"""Logs: for people, or as JSON for machines; one line a fact, with the ids of what it is about, never with a secret.

What libraries log goes the same way. A line that is about an order or a task carries `operation_id`, and `task_id`, so
that one search finds all there is: what a handler logs, or a library that it uses, those of its task; the line of a
request, those of its path or of what it placed.
"""

import logging
import re
import sys
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, TextIO

import structlog
from starlette.types import Scope
from structlog.types import Processor

from orderup.engine.at_work import ids_at_work
from orderup.model.ids import ALPHABET, LENGTH
from orderup.settings import LogFormat, Settings

HIDDEN = "[hidden]"
SECRET_NAMES = frozenset({"authorization", "cookie", "key", "password", "secret", "token", "api_key", "set-cookie"})
# Keys in addresses, bearers, JWTs, and passwords in the URLs of databases and brokers.
SECRET_PATTERNS = (
    (re.compile(r"([?&;](?:key|token|secret|password|access_token)=)[^&\s\"'#]+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]+", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*"), HIDDEN),
    (re.compile(r"(\w+://[^\s:/@]*:)[^\s@/]+@"), rf"\1{HIDDEN}@"),
)
# What would end a line or steer a terminal, and halves of characters, which no stream can encode.
CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")
HALVES = re.compile(r"[\ud800-\udfff]")
# Of an operation, or with a position of a task.
ID = re.compile(rf"([{ALPHABET}]{{{LENGTH}}})(-[0-9]{{1,7}})?")
ABOUT_KEY = "orderup.about"
# Written by structlog itself, over several lines.
OWN_LINES = frozenset({"exception", "stack"})


def ids_in(text: str) -> dict[str, str]:
    """What a line says of this id: nothing, if it is none."""
    match = ID.fullmatch(text)
    if match is None:
        return {}
    return {"operation_id": match[1], "task_id": text} if match[2] else {"operation_id": text}


def ids_of(scope: Scope) -> dict[str, str]:
    """What this request or WebSocket is about, once its route was found. Kept with it and not in a context: tasks that
    it sets going, which outlive it, would inherit that."""
    noted: str | None = scope.get(ABOUT_KEY)
    if noted is not None:
        return ids_in(noted)
    named: Mapping[str, object] = scope.get("path_params") or {}
    ids = (ids_in(str(value)) for name, value in named.items() if name == "id" or name.endswith("_id"))
    return next(filter(None, ids), {})


def note_about(scope: Scope, id: str) -> None:
    """For a route whose path does not name what it is about."""
    scope[ABOUT_KEY] = id


def configure_logs(settings: Settings, *, stream: TextIO | None = None) -> None:
    """For the whole process; `stream` is standard error unless given."""
    stream = stream or sys.stderr
    level = getattr(logging, settings.log_level.upper())
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_ids_at_work,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        Redaction(settings.secrets),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *before,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _renderer(settings.log_format, is_terminal=stream.isatty()),
            ],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # Each call out is told of by who makes it, with its reason; that two servers come and go is told once, by `serve`;
    # of Alembic's plugins and transactions nobody wants to know.
    for name in ("alembic", "httpx2", "uvicorn.error"):
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"


def _add_ids_at_work(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, id in ids_at_work().items():
        line.setdefault(name, id)
    return line


def _renderer(log_format: LogFormat, *, is_terminal: bool) -> Processor:
    if log_format is LogFormat.JSON:
        return structlog.processors.JSONRenderer(ensure_ascii=False)
    return structlog.dev.ConsoleRenderer(
        colors=is_terminal, timestamp_key="at", pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
    )


class Redaction:
    """The last to touch a line before it is written: takes secrets out and keeps it one line."""

    def __init__(self, secrets: Iterable[str]) -> None:
        # A short one would hide ordinary words; the longest first, where one contains another.
        known = sorted((secret for secret in secrets if len(secret) >= 6), key=len, reverse=True)
        self.known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, _logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for name, value in line.items():
            if not name.startswith("_"):
                line[name] = HIDDEN if name.lower() in SECRET_NAMES else self.clean(value, name=name)
        return line

    def clean(self, value: Any, *, name: str = "") -> Any:
        match value:
            case str():
                text = self._without_secrets(value)
                return (HALVES if name in OWN_LINES else CONTROL).sub(_escape, text)
            case bool() | int() | float() | None:
                return value
            case dict():
                return {
                    key: HIDDEN if str(key).lower() in SECRET_NAMES else self.clean(one) for key, one in value.items()
                }
            case list() | tuple() | set() | frozenset():
                return [self.clean(one) for one in value]
            case _:
                return self.clean(str(value))

    def _without_secrets(self, text: str) -> str:
        if self.known is not None:
            text = self.known.sub(HIDDEN, text)
        for pattern, replacement in SECRET_PATTERNS:
            text = pattern.sub(replacement, text)
        return text


def _escape(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode()
