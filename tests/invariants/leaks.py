"""I12: no secret leaves the settings: not into the database, not into a log, not into an event."""

import base64
import json
from collections.abc import Iterator
from urllib.parse import quote

from tests.invariants.evidence import Evidence
from tests.invariants.records import Received


def leaked(evidence: Evidence) -> Iterator[str]:
    """Each place of a violation of I12. The secret itself is not repeated."""
    received = [("an event that was sent", json.dumps(each.event)) for each in evidence.of(Received)]
    places = [*evidence.database.texts, *evidence.logs.items(), *received]
    for number, secret in enumerate(evidence.secrets, start=1):
        spellings = _spellings(secret)
        for place in sorted({place for place, text in places if any(each in text for each in spellings)}):
            yield f"secret {number} stands in {place}"


def _spellings(secret: str) -> set[str]:
    """As it is, and as it looks in an address, in JSON and in a header of basic authentication."""
    return {secret, quote(secret, safe=""), json.dumps(secret)[1:-1], base64.b64encode(secret.encode()).decode()}
