"""A cell of a CSV that we write, for people who open it in a spreadsheet."""

# What begins with one of these a spreadsheet may take for a formula, and carry it out.
FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def csv_cell(text: str) -> str:
    """With an apostrophe before what would be a formula. Source: "CSV Injection", OWASP."""
    return f"'{text}" if text.startswith(FORMULAS) else text
