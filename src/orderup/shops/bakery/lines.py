"""Ingredients as people write them, a line each: `chocolate 33.5 g`, `eggs 1 pcs`. Pure.

Without a unit a number means what it means to the API: grams with a point, pieces without.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from orderup.model.one_line import one_line
from orderup.shops.bakery.amounts import GRAMS, PIECES, Amount, Line, read_amount
from orderup.web.pages.texts import _

MOST_LINES, LONGEST_NAME = 100, 200
# Of all lines together, each as long as it may be.
LONGEST_TEXT = 25_000
LINE = re.compile(r"(?P<name>.*\S)\s+(?P<number>[0-9][0-9.,]{0,40})\s*(?P<unit>\S{0,20})")
NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
UNITS = {"": None, "g": GRAMS, "pcs": PIECES}


class WrongLines(ValueError):
    """faults: what is the matter with which line, in words."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = faults
        super().__init__("; ".join(faults))


def read_lines(text: str, *, least: int = 0) -> dict[str, Amount]:
    """By name, in the order of the lines; empty ones count for nothing. Raises WrongLines, which names each line that
    is wrong."""
    found: dict[str, Amount] = {}
    faults = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not one_line(line):
            continue
        try:
            name, amount = _read(one_line(line), known=found)
        except ValueError as error:
            faults.append(_("Line {number}: {fault}").format(number=number, fault=error))
        else:
            found[name] = amount
    if len(found) > MOST_LINES:
        faults.append(_("There are {count} lines; at most {most} are taken.").format(count=len(found), most=MOST_LINES))
    if not faults and len(found) < least:
        faults.append(_("Write at least one ingredient."))
    if faults:
        raise WrongLines(faults)
    return found


def write_lines(lines: Mapping[str, Amount] | Sequence[Line]) -> str:
    """What `read_lines` reads as the same."""
    pairs = lines.items() if isinstance(lines, Mapping) else lines
    return "\n".join(f"{name} {amount.words}" for name, amount in pairs)


def _read(line: str, *, known: Mapping[str, Amount]) -> Line:
    """Raises ValueError."""
    said = LINE.fullmatch(line)
    if said is None:
        raise ValueError(_("there is no amount. Write it after the name: chocolate 33.5 g"))
    name, amount = said["name"], _amount(said)
    for fault in _faults_of(name, known):
        raise ValueError(fault)
    return name, amount


def _amount(said: re.Match[str]) -> Amount:
    number, unit = said["number"], UNITS.get(said["unit"])
    if said["unit"] not in UNITS:
        raise ValueError(_("the unit is g or pcs, not {unit}.").format(unit=said["unit"]))
    if not NUMBER.fullmatch(number):
        raise ValueError(
            _("{number} is no amount. Write it with a point, and without commas: 33.5").format(number=number)
        )
    has_point = "." in number
    if unit == PIECES and has_point:
        raise ValueError(_("pieces are counted in whole numbers."))
    is_weight = unit == GRAMS or (unit is None and has_point)
    try:
        return read_amount(float(number) if is_weight else int(number))
    except ValueError as error:
        raise ValueError(_("the amount {fault}.").format(fault=error)) from error


def _faults_of(name: str, known: Mapping[str, Amount]) -> Iterator[str]:
    if len(name) > LONGEST_NAME:
        yield _("the name has more than {most} characters.").format(most=LONGEST_NAME)
    if name in known:
        yield _("{name} stands in an earlier line already.").format(name=name)
