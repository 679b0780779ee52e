"""What Jira sends by itself: whether it is really Jira's, and of which issue it speaks.

Nothing else is believed of it: what has become of the issue is asked for. The two senders differ. A webhook is signed
over its bytes; the web request of an automation rule carries a secret in a header, and whatever body its author chose.
"""

import hashlib
import hmac
import re
from contextlib import suppress
from typing import Any

import msgspec

METHOD = "sha256"
KEY = re.compile(r"[A-Z][A-Z0-9_]{1,254}-[1-9][0-9]{0,9}", re.ASCII)
LONGEST_KEY = 255


def is_issue_key(text: str) -> bool:
    return len(text) <= LONGEST_KEY and KEY.fullmatch(text) is not None


def is_signed(secret: str, body: bytes, header: str | None) -> bool:
    """By X-Hub-Signature: the method, an equals sign, and the digest of the bytes as they came. One method is taken."""
    method, _, digest = (header or "").partition("=")
    if method != METHOD:
        return False
    right = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(right.encode(), digest.encode(errors="replace"))


def is_automation(secret: str, header: str | None) -> bool:
    """By the header that the rule's author was told to set."""
    return header is not None and hmac.compare_digest(secret.encode(), header.encode(errors="replace"))


def read_hook(body: bytes) -> str | None:
    """The key of the issue that it speaks of. None: of no issue, or it cannot be read.

    It stands in {"issue": {"key": …}}, {"issueKey": …}, or, of a rule that sends the issue by itself, in {"key": …}.
    """
    found: Any = None
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = msgspec.json.decode(body)
    if not isinstance(found, dict):
        return None
    issue = found.get("issue")
    inside = issue.get("key") if isinstance(issue, dict) else None
    for key in (inside, found.get("issueKey"), found.get("key")):
        if isinstance(key, str) and is_issue_key(key):
            return key
    return None
