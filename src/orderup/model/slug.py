"""A name as an id: `Chocolate Cake` is `chocolate_cake`, in whatever script it was written."""

import re
import unicodedata

from anyascii import anyascii

from orderup.errors import Invalid

LONGEST = 100


def slug(name: str) -> str:
    """Lower-case letters of the English alphabet, digits, and single underscores between them; at most 100 characters.

    Other scripts are transliterated. Raises Invalid if nothing of the name can be spelled.
    """
    plain = anyascii(unicodedata.normalize("NFKC", name)).lower()
    made = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:LONGEST].rstrip("_")
    if not made:
        raise Invalid("Nothing in this name can be spelled with letters and digits. Give it some.")
    return made
