"""Documents at Google Drive, to which lines are appended.

Neither Drive nor Docs has a key by which it would know a request again. A document carries a property, by which it is
found after a creation of which nobody knows what came; search may be late. A line is appended to a revision, and only
if that is still the newest: so the same line sent twice arrives once, and who appends reads before.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from orderup.errors import Invalid, Misconfigured, UpstreamFailed, UpstreamRefused
from orderup.integrations.google import Api, ServiceAccount, problem_of, read_key, rest_of_google, throw_away_key
from orderup.integrations.upstream import Upstream, UpstreamMetrics
from orderup.model.one_line import one_line
from orderup.settings import Settings

DEADLINE = timedelta(seconds=30)
MOST_IN_FLIGHT = 10
LARGEST_DOCUMENT_BYTES = 16 << 20
SCOPE = "https://www.googleapis.com/auth/drive"
FOLDER, DOCUMENT = "application/vnd.google-apps.folder", "application/vnd.google-apps.document"
KEY_PROPERTY = "orderup_key"
# Drive's own limit, of a property's name and value together, in UTF-8.
LONGEST_PROPERTY_BYTES = 124
MOST_PAGES, PAGE_SIZE = 10, 100
FILE_FIELDS = "id,name,createdTime,appProperties"


class Named(msgspec.Struct):
    id: str


class File(msgspec.Struct, rename="camel"):
    id: str
    name: str
    created_time: datetime


class Files(msgspec.Struct, rename="camel"):
    files: list[File]
    incomplete_search: bool = False
    next_page_token: str = ""


class Kept(msgspec.Struct):
    id: str
    trashed: bool = False


class TextRun(msgspec.Struct):
    content: str = ""


class Element(msgspec.Struct, rename="camel"):
    text_run: TextRun | None = None


class Paragraph(msgspec.Struct):
    elements: list[Element] = msgspec.field(default_factory=list)


class Part(msgspec.Struct):
    paragraph: Paragraph | None = None


class Body(msgspec.Struct):
    content: list[Part] = msgspec.field(default_factory=list)


class Read(msgspec.Struct, rename="camel"):
    revision_id: str
    body: Body = msgspec.field(default_factory=Body)


class Written(msgspec.Struct, rename="camel"):
    document_id: str


class About(msgspec.Struct):
    class User(msgspec.Struct, rename="camel"):
        email_address: str = ""

    user: User


class SharedDrive(msgspec.Struct):
    name: str


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Document:
    """lines: without the empty ones at the end. is_open: somebody has written in the last line without ending it."""

    revision: str
    lines: tuple[str, ...]
    is_open: bool = False


class Drive:
    """files, documents: the two services. drive_id: the shared drive; None: the account's own."""

    def __init__(self, files: Api, documents: Api, *, drive_id: str | None = None) -> None:
        self.files, self.documents, self.drive_id = files, documents, drive_id

    # All of these raise Resting, UpstreamFailed and UpstreamRefused.

    async def find_folder(self, name: str) -> str | None:
        """The id of the oldest one of this name at the top."""
        query = f"name = {quoted(name)} and mimeType = '{FOLDER}' and {quoted(self._top)} in parents"
        found = await self._find(f"{query} and trashed = false", about=name)
        return found[0].id if found else None

    async def create_folder(self, name: str) -> str:
        """Raises OutcomeUnknown: ask `find_folder` before it is created again."""
        return await self._create({"name": one_line(name), "mimeType": FOLDER, "parents": [self._top]})

    async def find_document(self, *, folder_id: str, key: str) -> list[File]:
        """Oldest first. More than one: the first is it, and the others were made by mistake."""
        has_key = f"appProperties has {{ key='{KEY_PROPERTY}' and value={quoted(key)} }}"
        return await self._find(f"{has_key} and {quoted(folder_id)} in parents and trashed = false", about=key)

    async def create_document(self, *, name: str, folder_id: str, key: str) -> str:
        """Its id. Raises OutcomeUnknown: ask `find_document`, after a while, before it is created again; and Invalid
        if the key is too long."""
        if len(f"{KEY_PROPERTY}{key}".encode()) > LONGEST_PROPERTY_BYTES:
            raise Invalid(f"{key!r} is too long for a property of a file at Drive.", field="key")
        properties = {KEY_PROPERTY: key}
        return await self._create(
            {"name": one_line(name), "mimeType": DOCUMENT, "parents": [folder_id], "appProperties": properties}
        )

    async def read(self, id: str) -> Document | None:
        """None: it is in the bin, or there is none."""
        if not await self.is_there(id):
            return None
        query = {"fields": "revisionId,body(content(paragraph(elements(textRun(content)))))"}
        read = await self._get(self.documents, f"/documents/{_part(id)}", Read, about=id, query=query)
        return None if read is None else document_of(read)

    async def is_there(self, id: str) -> bool:
        """Whether there is such a file or folder, and it is not in the bin."""
        everywhere = {"supportsAllDrives": "true", "fields": "id,trashed"}
        kept = await self._get(self.files, f"/files/{_part(id)}", Kept, about=id, query=everywhere)
        return kept is not None and not kept.trashed

    async def append(self, id: str, *, text: str, revision: str, is_open: bool = False) -> bool:
        """One line, whatever text has in it, to what was read at this revision. False: it has changed since, or is
        gone; read it again. May be sent again: it cannot arrive twice."""
        return await self.append_lines(id, lines=[text], revision=revision, is_open=is_open)

    async def append_lines(self, id: str, *, lines: Sequence[str], revision: str, is_open: bool = False) -> bool:
        """All of them or none; as `append`. Raises Invalid if nothing is left of a line."""
        written = [one_line(line) for line in lines]
        if not all(written):
            raise Invalid("An empty line cannot be appended to a document.")
        text = "".join(f"{line}\n" for line in written)
        insert = {"endOfSegmentLocation": {}, "text": f"\n{text}" if is_open else text}
        reply = await self.documents.call(
            "POST",
            f"/documents/{_part(id)}:batchUpdate",
            about=id,
            kind=Written,
            json={"requests": [{"insertText": insert}], "writeControl": {"requiredRevisionId": revision}},
            # sent again, it is refused if it took effect: the revision is another one then
            is_repeatable=True,
        )
        if reply.is_success:
            return True
        is_old = reply.status == HTTPStatus.BAD_REQUEST and "revision" in problem_of(reply).message.lower()
        if is_old or reply.status == HTTPStatus.NOT_FOUND:
            return False
        return self.documents.refuse(reply)

    async def check(self) -> str:
        about = await self._get(self.files, "/about", About, about="who we are", query={"fields": "user(emailAddress)"})
        who = about.user.email_address if about is not None else "somebody"
        if self.drive_id is None:
            return f"{who}, in its own drive"
        path, query = f"/drives/{_part(self.drive_id)}", {"fields": "name"}
        shared = await self._get(self.files, path, SharedDrive, about="shared drive", query=query)
        return f"{who}, in the shared drive {shared.name}" if shared else f"{who}, and no drive {self.drive_id}"

    def link(self, id: str) -> str:
        """For people."""
        base_url = self.documents.upstream.base_url
        is_google = (urlsplit(base_url).hostname or "").endswith(".googleapis.com")
        return f"{'https://docs.google.com' if is_google else base_url}/document/d/{_part(id)}/edit"

    @property
    def _top(self) -> str:
        return self.drive_id or "root"

    async def _find(self, q: str, *, about: str) -> list[File]:
        query = {
            "q": q,
            "fields": f"files({FILE_FIELDS}),nextPageToken,incompleteSearch",
            "orderBy": "createdTime",
            "pageSize": str(PAGE_SIZE),
            "supportsAllDrives": "true",
            **self._within,
        }
        found: list[File] = []
        for _ in range(MOST_PAGES):
            page = await self._get(self.files, "/files", Files, about=about, query=query)
            if page is None:
                raise UpstreamRefused(f"Google Drive knows no drive {self.drive_id}, or we may not see it")
            if page.incomplete_search:
                raise UpstreamFailed("Google Drive has not searched everywhere: what it found may not be all there is")
            found += page.files
            if not page.next_page_token:
                return sorted(found, key=lambda file: file.created_time)
            query["pageToken"] = page.next_page_token
        raise UpstreamFailed(f"Google Drive found more than {MOST_PAGES * PAGE_SIZE} files for {about}")

    @property
    def _within(self) -> Mapping[str, str]:
        """Where is searched."""
        if self.drive_id is None:
            return {"corpora": "user"}
        return {"corpora": "drive", "driveId": self.drive_id, "includeItemsFromAllDrives": "true"}

    async def _create(self, file: Mapping[str, object]) -> str:
        query = {"supportsAllDrives": "true", "fields": "id"}
        reply = await self.files.call(
            "POST", "/files", about=str(file["name"]), kind=Named, json=file, query=query, is_repeatable=False
        )
        created = reply.read(Named) if reply.is_success else None
        return created.id if created is not None else self.files.refuse(reply)

    async def _get(self, api: Api, path: str, kind: type[T], *, about: str, query: Mapping[str, str]) -> T | None:
        """None: there is none."""
        reply = await api.call("GET", path, about=about, kind=kind, query=query, largest=LARGEST_DOCUMENT_BYTES)
        if reply.status == HTTPStatus.NOT_FOUND:
            return None
        return reply.read(kind) if reply.is_success else api.refuse(reply)


def quoted(text: str) -> str:
    """As a string in a search."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def document_of(read: Read) -> Document:
    paragraphs = [part.paragraph for part in read.body.content if part.paragraph is not None]
    runs = [element.text_run for paragraph in paragraphs for element in paragraph.elements]
    text = "".join(run.content for run in runs if run is not None)
    written = text.removesuffix("\n")  # every document ends with one
    lines = written.rstrip("\n").split("\n") if written.strip("\n") else []
    return Document(read.revision_id, tuple(lines), is_open=bool(written.rpartition("\n")[2]))


@asynccontextmanager
async def open_drive(settings: Settings, metrics: UpstreamMetrics) -> AsyncIterator[Drive]:
    """Raises Misconfigured."""
    if settings.google_credentials_file is not None:
        key = await asyncio.to_thread(read_key, settings.google_credentials_file)
    elif settings.google_token_url is not None:
        key = await asyncio.to_thread(throw_away_key, settings.google_token_url)
    else:
        raise Misconfigured("GOOGLE_CREDENTIALS_FILE is not set. Set it, or let the sandbox stand in.")
    async with AsyncExitStack() as opened:

        async def open_upstream(name: str, url: str) -> Upstream:
            upstream = Upstream(name, url, metrics=metrics, deadline=DEADLINE, most=MOST_IN_FLIGHT, rest=rest_of_google)
            return await opened.enter_async_context(upstream)

        sign_in = await open_upstream("Google sign-in", settings.google_token_url or key.token_uri)
        account = ServiceAccount(key, sign_in, scope=SCOPE)
        files = Api(await open_upstream("Google Drive", settings.google_drive_url), account)
        documents = Api(await open_upstream("Google Docs", settings.google_docs_url), account)
        yield Drive(files, documents, drive_id=settings.google_drive_id)


def _part(text: str) -> str:
    """Of a path: it stays one part, whatever is in it."""
    return quote(text, safe="")
