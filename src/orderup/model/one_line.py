"""What people wrote, as one line among others: it cannot begin a second one, nor turn round what stands beside it."""

import unicodedata

# Each of these may end a line, somewhere.
ENDS_OF_LINES = frozenset("\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029\t")
# They turn round the writing after them, up to the end of the line: that of others, too.
TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Control characters, halves of surrogate pairs, and what means something on one machine only.
UNWRITTEN = frozenset({"Cc", "Cs", "Co"})


def one_line(text: str) -> str:
    """With single spaces for white space, and without control characters. May be empty."""
    spaced = "".join(" " if each in ENDS_OF_LINES else each for each in text)
    kept = (each for each in spaced if each not in TURNS and unicodedata.category(each) not in UNWRITTEN)
    return " ".join("".join(kept).split())
