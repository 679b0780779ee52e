"""A CSV of campaigns, read a slice at a time: whatever its size, little of it is in memory.

A row is an ad, with the columns of its ad group and its campaign. The rows of a campaign may lie anywhere in the file:
each slice gives a `Part` of each campaign that it has rows of, and `merge` makes the campaign of its parts. Whatever is
wrong is told with its line and its column.

Each line is a row by itself, for no cell may hold a line break: a quote that nobody closes spoils its own row, and not
all that follow up to the next quote.
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BufferedReader, TextIOWrapper
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from orderup.errors import Invalid
from orderup.shops.campaigns.campaign import (
    AD_COLUMNS,
    CAMPAIGN_COLUMNS,
    CHECKS,
    COLUMNS,
    GROUP_COLUMNS,
    MOST_ADS,
    MOST_GROUPS,
    Ad,
    AdGroup,
    Campaign,
    check_dates,
)

ROWS_IN_A_SLICE = 4_000
# Seventeen cells as long as they may be are less. Nobody has to read on for ever to find the end of a line.
LONGEST_LINE = 100_000
# So many campaigns' cells, and ad groups', that were checked are remembered, for they come again in row after row.
CAMPAIGNS_REMEMBERED, GROUPS_REMEMBERED = 1_000, 4_000
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
# A cell whose quotes are right, up to the next one. Nothing is tried twice: the line may be long.
RIGHT_CELL = re.compile(r'(?:"[^"]*+(?:""[^"]*+)*+"|[^",][^,]*+)?+(?:,|$)')

Cells = tuple[str, ...]


class Problem(NamedTuple):
    """What is wrong in the file. column: None if it is the whole row."""

    line: int
    column: str | None
    message: str


class PartRow(msgspec.Struct, array_like=True, gc=False):
    """campaign, group: where its cells stand in the part."""

    line: int
    campaign: int
    group: int
    ad: Cells


class Part(msgspec.Struct, array_like=True):
    """The rows of one campaign in one slice. campaigns, groups: their cells, each once, in the order of the columns."""

    campaigns: list[Cells]
    groups: list[Cells]
    rows: list[PartRow]


@dataclass(slots=True)
class Slice:
    """rows: how many there were, with the wrong ones. read: bytes of the file so far."""

    parts: dict[str, Part] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    rows: int = 0
    read: int = 0


def read_slices(path: Path, *, rows: int = ROWS_IN_A_SLICE) -> Iterator[Slice]:
    """The file's rows, a slice at a time. Raises Invalid for a file that cannot be read as a CSV of campaigns."""
    try:
        with path.open("rb") as file:
            _check_beginning(file.read(4096))
        # Lines keep their ends, and a byte order mark is none of the first name.
        with path.open("rb") as file, TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            yield from _Reader(file, text).slices(rows)
    except UnicodeDecodeError as error:
        line = _first_line_of_another_encoding(path)
        raise Invalid(f"Line {line:,} is not in UTF-8. Save the file as CSV UTF-8, and send it again.") from error


def _check_beginning(head: bytes) -> None:
    if not head:
        raise Invalid("The file is empty. Its first line names the columns.")
    if head.startswith(UTF_16) or (head[:4].count(0) > 1):
        raise Invalid("The file is in UTF-16. Save it as CSV UTF-8, and send it again.")


def _first_line_of_another_encoding(path: Path) -> int:
    line = 1
    with path.open("rb") as file:
        # a line that is cut is no longer at the same place than it begins
        while piece := file.readline(LONGEST_LINE):
            try:
                piece.decode()
            except UnicodeDecodeError as error:
                is_cut = error.end == len(piece) and not piece.endswith(b"\n")
                if not is_cut or len(piece) < LONGEST_LINE:
                    return line
            line += piece.endswith(b"\n")
    return line


class _Lines:
    """The lines of a file, for the module csv, which gets one for each row: if it asks for another, a quote is open. A
    line that has no end is cut, and noted."""

    def __init__(self, file: IO[str]) -> None:
        self.file, self.line, self.number = file, "", 0
        self.is_due = self.is_open = self.is_overlong = False

    def begin_row(self) -> None:
        self.is_due, self.is_open, self.is_overlong = True, False, False

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        if not self.is_due:
            self.is_open = True
            raise StopIteration
        self.is_due = False
        self.number += 1
        line = self.line = self.file.readline(LONGEST_LINE)
        if len(line) == LONGEST_LINE and not line.endswith(("\n", "\r")):
            self.is_overlong = True
            while (rest := self.file.readline(LONGEST_LINE)) and not rest.endswith(("\n", "\r")):
                pass
        elif not line:
            raise StopIteration
        return line


class _Sort:
    """The columns of what comes again in many rows, a campaign or an ad group. Each sort remembers its own cells: what
    is right in those of one may be wrong in the other's."""

    def __init__(self, header: Sequence[str], columns: Sequence[str], *, most: int) -> None:
        self.columns, self.most = columns, most
        self.take = itemgetter(*map(header.index, columns))
        self.remembered: dict[Cells, Cells | list[tuple[str, str]]] = {}

    def checked(self, row: Sequence[str]) -> Cells | list[tuple[str, str]]:
        cells = self.take(row)
        known = self.remembered.get(cells)
        if known is None:
            if len(self.remembered) >= self.most:
                self.remembered.clear()
            known = self.remembered[cells] = _check_cells(cells, self.columns)
        return known


class _Reader:
    def __init__(self, file: BufferedReader, text: TextIOWrapper) -> None:
        self.file, self.lines = file, _Lines(text)
        self.rows = csv.reader(self.lines, strict=True)
        self.line = 0
        self.header: list[str] = []

    def slices(self, most: int) -> Iterator[Slice]:
        self.header = header = self._header()
        self.campaign = _Sort(header, CAMPAIGN_COLUMNS, most=CAMPAIGNS_REMEMBERED)
        self.group = _Sort(header, GROUP_COLUMNS, most=GROUPS_REMEMBERED)
        self.take_ad = itemgetter(*map(header.index, AD_COLUMNS))
        while (found := self._slice(most)) is not None:
            yield found

    def _next(self) -> list[str] | Problem | None:
        """The next row, its line in `line`; None at the end."""
        self.lines.begin_row()
        row: list[str] | None = None
        try:
            row = next(self.rows)
        except StopIteration:
            return None
        except csv.Error:
            pass  # what it says is about its own insides
        self.line = self.lines.number
        if self.lines.is_overlong:
            return Problem(self.line, None, f"is longer than {LONGEST_LINE:,} characters")
        return self._wrong_quotes() if row is None else row

    def _wrong_quotes(self) -> Problem:
        place = _first_wrong_cell(self.lines.line.rstrip("\r\n"))
        fault = "opens a quote that is not closed in this line" if self.lines.is_open else "goes on after its quotes"
        told = f"{fault}. A cell with a comma or a quote in it stands in quotes, its own ones doubled, on one line"
        return Problem(self.line, self.header[place] if place < len(self.header) else None, told)

    def _header(self) -> list[str]:
        """Raises Invalid unless it names each column once, in whatever order."""
        row: list[str] | Problem | None = []
        while isinstance(row, list) and not any(row):
            row = self._next()
        if row is None:
            raise Invalid("The file is empty. Its first line names the columns.")
        if isinstance(row, Problem):
            raise Invalid(f"Line {row.line:,}, which should name the columns, {row.message}.")
        names = [name.strip().lower() for name in row]
        faults = [_list_of(said, found) for said, found in _header_faults(names).items() if found]
        if faults:
            raise Invalid(f"The first line does not name the columns of campaigns: {'; '.join(faults)}.{_hint(row)}")
        return names

    def _slice(self, most: int) -> Slice | None:
        found = Slice()
        while found.rows < most:
            row = self._next()
            if row is None:
                break
            if isinstance(row, list):
                if not any(row):
                    continue  # an empty line, or one of commas, as spreadsheets leave them behind
                self._take_row(row, found)
            else:
                found.problems.append(row)
            found.rows += 1
        # where the file's buffer has been filled to: what was decoded, a few kilobytes ahead
        found.read = self.file.tell()
        return found if found.rows else None

    def _take_row(self, row: list[str], found: Slice) -> None:
        if len(row) != len(self.header):
            less_or_more = "fewer" if len(row) < len(self.header) else "more"
            told = f"has {len(row):,} cells, {less_or_more} than the first line, which has {len(self.header)}"
            found.problems.append(Problem(self.line, None, told))
            return
        campaign, group = self.campaign.checked(row), self.group.checked(row)
        ad = _check_cells(self.take_ad(row), AD_COLUMNS)
        if isinstance(campaign, tuple) and isinstance(group, tuple) and isinstance(ad, tuple):
            _add(found.parts, self.line, campaign, group, ad)
            return
        for faults in (campaign, group, ad):
            if isinstance(faults, list):
                found.problems += [Problem(self.line, column, message) for column, message in faults]


def _first_wrong_cell(line: str) -> int:
    """How many cells come before the first whose quotes are wrong."""
    place = begin = 0
    while (cell := RIGHT_CELL.match(line, begin)) is not None and cell.end() > begin:
        place, begin = place + 1, cell.end()
    return place


def _header_faults(names: Sequence[str]) -> Mapping[str, Sequence[str]]:
    return {
        "missing": [name for name in COLUMNS if name not in names],
        "unknown": [name for name in dict.fromkeys(names) if name not in COLUMNS],
        "there more than once": [name for name in dict.fromkeys(names) if names.count(name) > 1],
    }


def _list_of(said: str, names: Sequence[str]) -> str:
    shown = [name[:40] or '""' for name in names[: len(COLUMNS)]]
    return f"{said}: {', '.join(shown)}{', …' if len(names) > len(shown) else ''}"


def _hint(row: Sequence[str]) -> str:
    """For a file whose cells something else than commas is between."""
    [text] = row if len(row) == 1 else [""]
    found = [name for separator, name in OTHER_SEPARATORS.items() if separator in text]
    return f" This looks like {found[0]} between the cells; use commas." if found else ""


def _check_cells(cells: Cells, columns: Sequence[str]) -> Cells | list[tuple[str, str]]:
    """As they are kept; or what is wrong, by column."""
    try:
        kept = tuple([CHECKS[column](cell) for column, cell in zip(columns, cells, strict=True)])
        if columns is CAMPAIGN_COLUMNS:
            check_dates(kept[3], kept[4])
    except ValueError:
        return _faults_in(cells, columns)
    return kept


def _faults_in(cells: Cells, columns: Sequence[str]) -> list[tuple[str, str]]:
    faults, kept = [], {}
    for column, cell in zip(columns, cells, strict=True):
        try:
            kept[column] = CHECKS[column](cell)
        except ValueError as error:
            faults.append((column, str(error)))
    if "start_date" in kept and "end_date" in kept:
        try:
            check_dates(kept["start_date"], kept["end_date"])
        except ValueError as error:
            faults.append(("end_date", str(error)))
    return faults


def _add(parts: dict[str, Part], line: int, campaign: Cells, group: Cells, ad: Cells) -> None:
    part = parts.get(campaign[0])
    if part is None:
        part = parts[campaign[0]] = Part([], [], [])
    part.rows.append(PartRow(line, _place(part.campaigns, campaign), _place(part.groups, group), ad))


def _place(known: list[Cells], cells: Cells) -> int:
    """Where these cells stand among the known ones: at the end as a rule, for rows of one ad group lie together."""
    if known and known[-1] == cells:
        return len(known) - 1
    try:
        return known.index(cells)
    except ValueError:
        known.append(cells)
        return len(known) - 1


# from parts to campaigns


class Merged(NamedTuple):
    """campaign: of the rows that are right; None if none is, or there are too many."""

    campaign: Campaign | None
    problems: list[Problem]


@dataclass(slots=True)
class _Group:
    cells: Cells
    line: int
    ads: list[Ad] = field(default_factory=list)


def merge(parts: Sequence[Part]) -> Merged:
    """The campaign of its parts, which come in the order of the file. What a row says differently than an earlier one
    is wrong, and the row is left out. The same parts always make the same campaign."""
    first, first_line = parts[0].campaigns[0], parts[0].rows[0].line
    problems: list[Problem] = []
    groups: dict[str, _Group] = {}
    ads: dict[str, int] = {}
    for part in parts:
        campaign_is = [cells == first for cells in part.campaigns]
        for row in part.rows:
            cells = part.groups[row.group]
            if not campaign_is[row.campaign]:
                problems += _differences(
                    row.line, CAMPAIGN_COLUMNS, part.campaigns[row.campaign], first, earlier=first_line
                )
                continue
            group = groups.get(cells[0])
            if group is None:
                group = groups[cells[0]] = _Group(cells, row.line)
            elif group.cells is not cells and group.cells != cells:
                problems += _differences(row.line, GROUP_COLUMNS, cells, group.cells, earlier=group.line)
                continue
            earlier = ads.setdefault(row.ad[0], row.line)
            if earlier != row.line:
                problems.append(Problem(row.line, "ad_id", f"is in line {earlier:,} already"))
                continue
            group.ads.append(Ad(*row.ad))
    if len(groups) > MOST_GROUPS:
        told = f"has {len(groups):,} ad groups; a campaign has {MOST_GROUPS:,} at most. It is left out"
        return Merged(None, [*problems, Problem(first_line, "campaign_id", told)])
    made = (
        AdGroup(**_named(GROUP_COLUMNS, group.cells), ads=tuple(group.ads)) for group in groups.values() if group.ads
    )
    return Merged(Campaign(**_named(CAMPAIGN_COLUMNS, first), ad_groups=tuple(made)), problems)


def _named(columns: Sequence[str], cells: Cells) -> dict[str, Any]:
    return dict(zip(columns, cells, strict=True))


def too_many_ads(rows: int, *, line: int) -> Problem:
    told = f"has {rows:,} rows; a campaign has {MOST_ADS:,} ads at most. It is left out"
    return Problem(line, "campaign_id", told)


def _differences(line: int, columns: Sequence[str], cells: Cells, first: Cells, *, earlier: int) -> Iterator[Problem]:
    for column, here, there in zip(columns, cells, first, strict=True):
        if here != there:
            told = f"is {_short(here)} here, and {_short(there)} in line {earlier:,}"
            yield Problem(line, column, told)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")
