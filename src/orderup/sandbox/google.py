"""Google as a service account sees it: tokens at `/token`, Drive at `/drive/v3`, Docs at `/docs/v1`.

What is in Drive are folders and documents; a document has lines and a revision. 403 with a switch that has
`retry_after_seconds` is the one that is meant as 429. `delay_search` has search come late, as it does at Google.
"""

import re
import time
import unicodedata
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import jwt
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from orderup.sandbox.behaviour import Answer
from orderup.sandbox.border import Refused
from orderup.sandbox.service import Asked, Call, Form, Said, Service

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
FOLDER, DOCUMENT = "application/vnd.google-apps.folder", "application/vnd.google-apps.document"
TOKEN_SECONDS = 3600
MOST_FILES, MOST_CHARACTERS, MOST_TOKENS, MOST_EXCHANGES = 2_000, 500_000, 100, 500
LONGEST_LINE, LONGEST_PROPERTY_BYTES = 500, 124
SHOWN_DOCUMENTS, SHOWN_LINES = 50, 100
USUAL_PAGE, LARGEST_PAGE = 100, 1_000
ROOT = "root"
SHARED_DRIVE, SHARED_DRIVE_NAME = "0ASandboxSharedDrive", "Sandbox"
NAMES_OF_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
REASONS = {400: "invalid", 401: "authError", 404: "notFound", 429: "rateLimitExceeded", 500: "internalError"}
# A string in a search, with what is escaped in it.
STRING = r"'((?:[^'\\]|\\.)*)'"
TERMS = {
    "name": re.compile(rf"name = {STRING}"),
    "type": re.compile(rf"mimeType = {STRING}"),
    "parent": re.compile(rf"{STRING} in parents"),
    "property": re.compile(rf"appProperties has {{ key={STRING} and value={STRING} }}"),
    "trashed": re.compile(r"trashed = (true|false)"),
}


@dataclass(slots=True)
class File:
    """text: of a document; without the newline that each ends with."""

    name: str
    mime_type: str
    parent: str
    properties: Mapping[str, str]
    id: str = field(default_factory=lambda: f"1{uuid4().hex}")
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    trashed: bool = False
    text: str = ""
    revision: str = field(default_factory=lambda: uuid4().hex)

    @property
    def is_document(self) -> bool:
        return self.mime_type == DOCUMENT

    @property
    def lines(self) -> list[str]:
        """Without the empty ones at the end."""
        return self.text.rstrip("\n").split("\n") if self.text.strip("\n") else []

    def write(self, text: str) -> None:
        """As it is from now on."""
        self.text, self.revision = text, uuid4().hex

    def as_json(self) -> dict[str, Any]:
        return {
            "kind": "drive#file",
            "id": self.id,
            "name": self.name,
            "mimeType": self.mime_type,
            "parents": [self.parent],
            "createdTime": self.created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "trashed": self.trashed,
            **({"appProperties": dict(self.properties)} if self.properties else {}),
        }


@dataclass(frozen=True, slots=True)
class Exchange:
    """A call and what was said. path: as Google has it, such as `/drive/v3/files`."""

    method: str
    path: str
    asked: Asked
    said: Said


class Google(Service):
    """`trusted_key`: of whom statements are taken, in PEM; None: of everybody, if they say all that is to be said."""

    name, title, template = "google", "Google Drive and Docs", "google.html"

    def __init__(self, *, scale: float) -> None:
        super().__init__(scale=scale)
        self.trusted_key: str | None = None
        self.files: dict[str, File] = {}
        self.tokens: dict[str, float] = {}
        self.exchanges: deque[Exchange] = deque(maxlen=MOST_EXCHANGES)
        self.is_search_incomplete = False
        self._hidden_for = timedelta()

    # for tests

    @property
    def documents(self) -> list[File]:
        """Those that are not in the bin, oldest first."""
        return [file for file in self.files.values() if file.is_document and not file.trashed]

    @property
    def folders(self) -> list[File]:
        return [file for file in self.files.values() if file.mime_type == FOLDER and not file.trashed]

    def delay_search(self, seconds: float) -> None:
        """Search finds a file so long after it was created; the sandbox divides this by its scale."""
        self._hidden_for = timedelta(seconds=seconds / self.scale)

    def revoke_tokens(self) -> None:
        self.tokens.clear()

    # what it is

    def calls(self) -> Sequence[Call]:
        drive, docs = "/drive/v3", "/docs/v1"
        return [
            Call("sign_in", "POST", "/token", self._noted("POST", "/token", self._sign_in)),
            self._call("about", "GET", f"{drive}/about", self._about),
            self._call("read_drive", "GET", f"{drive}/drives/{{id}}", self._read_drive),
            self._call("find_files", "GET", f"{drive}/files", self._find_files),
            self._call("create_file", "POST", f"{drive}/files", self._create_file),
            self._call("read_file", "GET", f"{drive}/files/{{id}}", self._read_file),
            self._call("read_document", "GET", f"{docs}/documents/{{id}}", self._read_document),
            self._call("write_document", "POST", f"{docs}/documents/{{id}}:batchUpdate", self._write_document),
        ]

    def _call(self, name: str, method: str, path: str, work: Callable[[Asked], Said]) -> Call:
        """For those who bring a token."""

        def answer(asked: Asked) -> Said:
            return work(asked) if self._is_signed_in(asked) else _no(401, "Request had invalid credentials.")

        return Call(name, method, path, self._noted(method, path, answer))

    def _noted(self, method: str, path: str, work: Callable[[Asked], Said]) -> Callable[[Asked], Said]:
        def answer(asked: Asked) -> Said:
            said = work(asked)
            self.exchanges.append(Exchange(method, path, asked, said))
            return said

        return answer

    def routes(self) -> list[Route]:
        """Also where a link to a document leads a person."""
        return [Route("/docs/v1/document/d/{id}/edit", _lead_to_page, methods=["GET"]), *super().routes()]

    def failure(self, answer: Answer) -> Said:
        reason = None
        if answer.status == HTTPStatus.FORBIDDEN:
            is_limit = answer.retry_after_seconds is not None
            reason = "userRateLimitExceeded" if is_limit else "insufficientFilePermissions"
        return _no(answer.status, f"The sandbox is switched to answer {answer.status}.", reason=reason)

    def shown(self) -> Mapping[str, Any]:
        newest = self.documents[-SHOWN_DOCUMENTS:][::-1]
        return {"folders": self.folders, "documents": newest, "last_lines": SHOWN_LINES, "files": self.files}

    def forms(self) -> Sequence[Form]:
        return [
            Form("/documents/{id}/lines", self._write_line),
            Form("/documents/{id}/bin", self._throw_away),
            Form("/revoke", lambda _parts, _form: self.revoke_tokens()),
        ]

    def _write_line(self, parts: Mapping[str, str], form: Mapping[str, str]) -> None:
        """As a person does, beside the shop."""
        document = self._document(parts["id"])
        document.write(f"{document.text}{form.get('line', '')[:LONGEST_LINE]}\n")

    def _throw_away(self, parts: Mapping[str, str], _form: Mapping[str, str]) -> None:
        self._document(parts["id"]).trashed = True

    def _document(self, id: str) -> File:
        """Raises Refused."""
        file = self.files.get(id)
        if file is None or not file.is_document:
            raise Refused(404, "There is no such document.")
        return file

    # tokens

    def _sign_in(self, asked: Asked) -> Said:
        try:
            form = asked.form()
        except ValueError:
            form = {}
        if form.get("grant_type") != GRANT:
            return _no_token("unsupported_grant_type", f"Invalid grant_type: {form.get('grant_type', '')}")
        problem = self._problem_of(form.get("assertion", ""))
        if problem is not None:
            return _no_token("invalid_grant", problem)
        while len(self.tokens) >= MOST_TOKENS:
            del self.tokens[next(iter(self.tokens))]
        token = f"ya29.{uuid4().hex}"
        self.tokens[token] = time.monotonic() + TOKEN_SECONDS
        return Said({"access_token": token, "expires_in": TOKEN_SECONDS - 1, "token_type": "Bearer"})

    def _problem_of(self, statement: str) -> str | None:
        """What is wrong with what somebody says of himself."""
        wanted = ["iss", "scope", "aud", "iat", "exp"]
        try:
            claims = jwt.decode(
                statement,
                self.trusted_key or "",
                algorithms=["RS256"],
                options={"verify_signature": self.trusted_key is not None, "verify_aud": False, "require": wanted},
            )
            if jwt.get_unverified_header(statement)["alg"] != "RS256":
                return "Invalid JWT Signature."
        except jwt.InvalidTokenError as error:
            return f"Invalid JWT: {error}"
        if not set(wanted) <= claims.keys():
            return "Invalid JWT: a required claim is missing."
        if not time.time() - 300 < claims["exp"] <= claims["iat"] + TOKEN_SECONDS or claims["iat"] > time.time() + 300:
            return "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
        return None

    def _is_signed_in(self, asked: Asked) -> bool:
        kind, _, token = asked.headers.get("authorization", "").partition(" ")
        return kind == "Bearer" and self.tokens.get(token, 0.0) > time.monotonic()

    # Drive

    def _about(self, asked: Asked) -> Said:
        if "fields" not in asked.query:
            return _no(400, "The 'fields' parameter is required for this method.")
        user = {"kind": "drive#user", "displayName": "orderup", "emailAddress": "orderup@sandbox.example"}
        return _masked({"kind": "drive#about", "user": user}, asked)

    def _read_drive(self, asked: Asked) -> Said:
        if asked.parts["id"] != SHARED_DRIVE:
            return _no(404, f"Shared drive not found: {asked.parts['id']}")
        return _masked(
            {"kind": "drive#drive", "id": SHARED_DRIVE, "name": SHARED_DRIVE_NAME}, asked, usual="kind,id,name"
        )

    def _find_files(self, asked: Asked) -> Said:
        wanted = _terms_of(asked.query.get("q", ""))
        if wanted is None:
            return _no(400, "Invalid Value", location="q")
        if asked.query.get("corpora") == "drive" and asked.query.get("includeItemsFromAllDrives") != "true":
            return _no(
                403, "A shared drive is searched with includeItemsFromAllDrives only.", reason="teamDrivesNotSupported"
            )
        seen_before = datetime.now(UTC) - self._hidden_for
        found = [file for file in self.files.values() if _fits(file, wanted) and file.created_at <= seen_before]
        if asked.query.get("orderBy") != "createdTime":
            found.reverse()
        try:
            begin = int(asked.query.get("pageToken", "~0").removeprefix("~"))
            end = begin + min(LARGEST_PAGE, int(asked.query.get("pageSize", USUAL_PAGE)))
        except ValueError:
            return _no(400, "Invalid Value", location="pageToken")
        more = {"nextPageToken": f"~{end}"} if end < len(found) else {}
        listed = [file.as_json() for file in found[begin:end]]
        told = {"kind": "drive#fileList", "incompleteSearch": self.is_search_incomplete, "files": listed, **more}
        return _masked(told, asked, usual="kind,incompleteSearch,nextPageToken,files(kind,id,name,mimeType)")

    def _create_file(self, asked: Asked) -> Said:
        given = _object_of(asked)
        if given is None:
            return _no(400, "Parse Error", reason="parseError")
        parents, properties = given.get("parents") or [ROOT], given.get("appProperties") or {}
        refused = self._refusal_of(asked, parents=parents, properties=properties)
        if refused is not None:
            return refused
        file = File(
            str(given.get("name", "Untitled")),
            str(given.get("mimeType", "application/octet-stream")),
            parents[0],
            {str(key): str(value) for key, value in properties.items()},
        )
        self.files[file.id] = file
        return _masked(file.as_json(), asked, usual="kind,id,name,mimeType")

    def _refusal_of(self, asked: Asked, *, parents: Any, properties: Any) -> Said | None:
        """What is wrong with a new file."""
        if not _are_texts(parents) or len(parents) != 1 or not isinstance(properties, dict):
            return _no(400, "A file has exactly one parent.")
        if any(len(f"{key}{value}".encode()) > LONGEST_PROPERTY_BYTES for key, value in properties.items()):
            return _no(403, "A property is too long.", reason="propertyTooLong")
        is_there = parents[0] in {ROOT, SHARED_DRIVE} or parents[0] in self.files
        if not is_there or (parents[0] == SHARED_DRIVE and asked.query.get("supportsAllDrives") != "true"):
            return _no(404, f"File not found: {parents[0]}.")
        if len(self.files) >= MOST_FILES:
            return _no(403, "The storage quota has been exceeded.", reason="storageQuotaExceeded")
        return None

    def _read_file(self, asked: Asked) -> Said:
        file = self.files.get(asked.parts["id"])
        if file is None:
            return _no(404, f"File not found: {asked.parts['id']}.")
        return _masked(file.as_json(), asked, usual="kind,id,name,mimeType")

    # Docs

    def _read_document(self, asked: Asked) -> Said:
        file = self.files.get(asked.parts["id"])
        if file is None or not file.is_document:
            return _no(404, "Requested entity was not found.")
        told = {"documentId": file.id, "title": file.name, "revisionId": file.revision, "body": _body_of(file.text)}
        return _masked(told, asked)

    def _write_document(self, asked: Asked) -> Said:
        """What is asked for is done as a whole, or not at all."""
        file, given = self.files.get(asked.parts["id"]), _object_of(asked)
        if file is None or not file.is_document:
            return _no(404, "Requested entity was not found.")
        if given is None or not isinstance(given.get("requests"), list):
            return _no(400, "Invalid JSON payload received.")
        required = (given.get("writeControl") or {}).get("requiredRevisionId")
        if required is not None and required != file.revision:
            return _no(400, f"The required revision ID '{required}' does not match the latest revision.")
        inserted = [_inserted_by(request) for request in given["requests"]]
        if not all(inserted):
            return _no(400, "Invalid requests: the sandbox knows insertText, of some text, at the end.")
        text = f"{file.text}{''.join(filter(None, inserted))}"
        if len(text) > MOST_CHARACTERS:
            return _no(400, "The document is too large.")
        file.write(text)
        control = {"requiredRevisionId": file.revision}
        return Said({"documentId": file.id, "replies": [{} for _ in inserted], "writeControl": control})


def _inserted_by(request: Any) -> str | None:
    """None: it is something else that is asked for."""
    insert = request.get("insertText") if isinstance(request, dict) else None
    if not isinstance(insert, dict) or insert.get("endOfSegmentLocation") != {}:
        return None
    return _kept_of(str(insert.get("text", "")))


async def _lead_to_page(request: Request) -> Response:
    return RedirectResponse(f"/google/#{quote(request.path_params['id'])}", status_code=303)


def _object_of(asked: Asked) -> dict[str, Any] | None:
    try:
        given = asked.json()
    except ValueError:
        return None
    return given if isinstance(given, dict) else None


def _are_texts(given: Any) -> bool:
    return isinstance(given, list) and all(isinstance(each, str) for each in given)


def _terms_of(q: str) -> list[tuple[str, list[str]]] | None:
    """Of a search whose terms all have to be true; None: it is none that is known here."""
    if not q:
        return []
    terms, at = [], 0
    while True:
        found = next(((kind, match) for kind, term in TERMS.items() if (match := term.match(q, at))), None)
        if found is None:
            return None
        kind, match = found
        terms.append((kind, [re.sub(r"\\(.)", r"\1", group) for group in match.groups()]))
        at = match.end()
        if at == len(q):
            return terms
        if not q.startswith(" and ", at):
            return None
        at += len(" and ")


def _fits(file: File, wanted: Sequence[tuple[str, list[str]]]) -> bool:
    is_so: dict[str, Callable[[list[str]], bool]] = {
        "name": lambda values: file.name == values[0],
        "type": lambda values: file.mime_type == values[0],
        "parent": lambda values: file.parent == values[0],
        "property": lambda values: file.properties.get(values[0]) == values[1],
        "trashed": lambda values: file.trashed == (values[0] == "true"),
    }
    return all(is_so[kind](values) for kind, values in wanted)


def _kept_of(text: str) -> str:
    """What Docs takes of it."""
    return "".join(
        each for each in text if each in "\t\n\v" or not (each < " " or unicodedata.category(each) in {"Co", "Cs"})
    )


def _body_of(text: str) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"endIndex": 1, "sectionBreak": {"sectionStyle": {}}}]
    at = 1
    for line in text.split("\n"):
        run = f"{line}\n"
        end = at + len(run.encode("utf-16-le")) // 2
        element = {"startIndex": at, "endIndex": end, "textRun": {"content": run, "textStyle": {}}}
        content.append({"startIndex": at, "endIndex": end, "paragraph": {"elements": [element], "paragraphStyle": {}}})
        at = end
    return {"content": content}


def _masked(told: Mapping[str, Any], asked: Asked, *, usual: str = "*") -> Said:
    """Only the fields that are asked for, as in `files(id,name),nextPageToken`."""
    mask = mask_of(asked.query.get("fields", usual))
    return _no(400, "Invalid field selection", location="fields") if mask is None else Said(_cut(told, mask))


Mask = dict[str, Any]


def mask_of(fields: str) -> Mask | None:
    """None: it is none."""
    mask: Mask = {}
    within, name = [mask], ""
    for each in re.findall(r"[\w*]+|\S", fields):
        if each == "(" and name:
            within.append(within[-1][name])
        elif each == ")" and len(within) > 1:
            within.pop()
        elif re.fullmatch(r"[\w*]+", each):
            name = each
            within[-1][name] = {}
        elif each != ",":
            return None
    return mask if len(within) == 1 and mask else None


def _cut(told: Any, mask: Mask) -> Any:
    if not mask or "*" in mask:
        return told
    if isinstance(told, list):
        return [_cut(each, mask) for each in told]
    if not isinstance(told, Mapping):
        return told
    return {name: _cut(told[name], below) for name, below in mask.items() if name in told}


def _no(status: int, message: str, *, reason: str | None = None, location: str | None = None) -> Said:
    where = {} if location is None else {"location": location, "locationType": "parameter"}
    error = {"message": message, "domain": "global", "reason": reason or REASONS.get(status, "backendError"), **where}
    name = NAMES_OF_STATUS.get(status, "UNKNOWN")
    return Said({"error": {"code": status, "message": message, "errors": [error], "status": name}}, status=status)


def _no_token(error: str, description: str) -> Said:
    return Said({"error": error, "error_description": description}, status=400)
