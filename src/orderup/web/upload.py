"""Files that are sent: written to disk while they come, so that their size is nobody's memory.

Either the body is the file, or it is a form with a field `file`. Who sends a megabyte in the time that a usual body has
may go on; so a slow line is enough, and a byte now and then is not.
"""

import errno
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.message import Message as EmailMessage
from pathlib import Path
from typing import IO, Any

from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from orderup.errors import Invalid, StorageFull
from orderup.model.one_line import one_line
from orderup.web.problems import UnsupportedBody
from orderup.web.wire import give_time

BUYS_TIME = 1 << 20
WRITTEN_AT_ONCE = 1 << 18
LONGEST_NAME = 200
FORM = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class Uploaded:
    """name: as its sender calls it, or None. path: deleted when the request is over. fields: of a form, beside the
    file."""

    path: Path
    name: str | None
    fields: Mapping[str, str]


class _Slow(Request):
    """A body that may take its time as long as it gets on."""

    async def stream(self) -> AsyncIterator[bytes]:  # type: ignore[override]  # Starlette calls it a generator
        received = bought = 0
        async for chunk in super().stream():
            received += len(chunk)
            if received - bought >= BUYS_TIME:
                bought = received
                give_time(self.scope)
            yield chunk


@asynccontextmanager
async def uploaded(request: Request, *, types: frozenset[str]) -> AsyncIterator[Uploaded]:
    """What was sent: the body, of one of these types, or a form's `file`. Raises UnsupportedBody, Invalid,
    StorageFull."""
    kind = _type_of(request)
    reader = _Slow(request.scope, request.receive)
    with tempfile.NamedTemporaryFile(prefix="orderup-upload-") as file:
        if kind in types:
            name, fields = None, dict[str, str]()
            await _write(file, reader.stream())
        elif kind == FORM:
            name, fields = await _write_form(file, reader)
        else:
            raise UnsupportedBody(f"Send the file itself as {' or '.join(sorted(types))}, or a form with a field file.")
        yield Uploaded(Path(file.name), name, fields)


def _type_of(request: Request) -> str:
    message = EmailMessage()
    message["content-type"] = request.headers.get("content-type") or "application/octet-stream"
    return message.get_content_type()


async def _write(file: IO[bytes], chunks: AsyncIterator[bytes]) -> None:
    waiting = bytearray()
    async for chunk in chunks:
        waiting += chunk
        if len(waiting) >= WRITTEN_AT_ONCE:
            await _on_disk(file.write, bytes(waiting))
            waiting.clear()
    await _on_disk(file.write, bytes(waiting))
    await _on_disk(file.flush)


async def _write_form(file: IO[bytes], reader: Request) -> tuple[str | None, dict[str, str]]:
    """The name of the form's file, and the form's other fields."""
    try:
        async with reader.form(max_files=1, max_fields=10) as form:
            sent = form.get("file")
            if not isinstance(sent, UploadFile):
                raise Invalid("This form has no file in a field of that name.", field="body.file")
            await _write(file, _pieces(sent))
            fields = {name: value for name, value in form.items() if isinstance(value, str)}
            return one_line(sent.filename or "")[:LONGEST_NAME] or None, fields
    except MultiPartException as error:
        raise Invalid(f"This form cannot be read: {error.message}", field="body") from error


async def _pieces(sent: UploadFile) -> AsyncIterator[bytes]:
    while piece := await sent.read(WRITTEN_AT_ONCE):
        yield piece


async def _on_disk(do: Callable[..., Any], *args: Any) -> None:
    try:
        await run_in_threadpool(do, *args)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise StorageFull("There is no room on the disk for this file. Nothing was changed.") from error
