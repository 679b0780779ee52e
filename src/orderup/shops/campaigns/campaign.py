"""A campaign: its ad groups, and their ads. Pure.

The fields are the columns of a CSV, and JSON calls them the same. What each may hold is said once, in `CHECKS`.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple
from unicodedata import category

import msgspec

from orderup.errors import Invalid
from orderup.model.one_line import ENDS_OF_LINES, TURNS, UNWRITTEN

# Of one campaign, which is one operation and lies in memory as a whole while it is decided.
MOST_GROUPS, MOST_ADS = 1_000, 10_000
LONGEST_ID, LONGEST_NAME, LONGEST_WORD, LONGEST_TARGETING, LONGEST_URL = 100, 200, 50, 1_000, 2_000

CAMPAIGN_COLUMNS = ("campaign_id", "campaign_name", "campaign_budget", "start_date", "end_date", "objective")
GROUP_COLUMNS = ("ad_group_id", "ad_group_name", "bid", "targeting_ages", "targeting_interests", "targeting_geo")
AD_COLUMNS = ("ad_id", "ad_type", "creative_url", "click_url", "status")
COLUMNS = (*CAMPAIGN_COLUMNS, *GROUP_COLUMNS, *AD_COLUMNS)

DECIMAL = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?")
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
URL = re.compile(
    r"https?://([^\s/?#\\@]+@)?([^\s/?#\\@:\[\]]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?([/?#]\S*)?", re.IGNORECASE
)

# Gives the text as it is kept. Raises ValueError, whose words go on after the column's name: "is empty".
Check = Callable[[str], str]


class Ad(msgspec.Struct, frozen=True, gc=False):
    ad_id: str
    ad_type: str
    creative_url: str
    click_url: str
    status: str


class AdGroup(msgspec.Struct, frozen=True):
    """bid: an exact decimal, as it was written."""

    ad_group_id: str
    ad_group_name: str
    bid: str
    targeting_ages: str
    targeting_interests: str
    targeting_geo: str
    ads: tuple[Ad, ...]


class Campaign(msgspec.Struct, frozen=True):
    """campaign_budget: an exact decimal, as it was written. start_date, end_date: as 2026-11-30, the last day included.

    Ids are their owner's. An ad group's is scoped by its campaign, and so is an ad's."""

    campaign_id: str
    campaign_name: str
    campaign_budget: str
    start_date: str
    end_date: str
    objective: str
    ad_groups: tuple[AdGroup, ...]

    @property
    def ad_count(self) -> int:
        return sum(len(group.ads) for group in self.ad_groups)

    @property
    def submissions(self) -> int:
        """How many things the platform is given: the campaign, its ad groups, its ads."""
        return 1 + len(self.ad_groups) + self.ad_count


def _text(longest: int, *, may_be_empty: bool = False) -> Check:
    def check(text: str) -> str:
        text = text.strip()
        if not text and not may_be_empty:
            raise ValueError("is empty")
        if len(text) > longest:
            raise ValueError(f"has {len(text):,} characters; {longest:,} at most")
        # printable: as nearly every text is, and quickly known
        if not text.isprintable():
            _check_one_line(text)
        return text

    return check


def _check_one_line(text: str) -> None:
    if any(each in ENDS_OF_LINES for each in text):
        raise ValueError("has a line break or a tab in it; write it on one line")
    if any(each in TURNS or category(each) in UNWRITTEN for each in text):
        raise ValueError("has a control character in it")


_check_short = _text(LONGEST_ID)
_check_long = _text(LONGEST_URL)


def _check_id(text: str) -> str:
    text = _check_short(text)
    if " " in text or not text.isprintable():
        raise ValueError("has a space or something invisible in it; an id has visible characters only")
    return text


def _check_decimal(text: str) -> str:
    text = _check_short(text)
    if not DECIMAL.fullmatch(text):
        raise ValueError(
            f"is no amount: {_short(text)}. Write it as 1234.50: up to 12 digits, a point, up to 6 more, nothing else"
        )
    if not Decimal(text):
        raise ValueError("is 0; it must be more")
    return text


def _check_date(text: str) -> str:
    text = _check_short(text)
    try:
        if not DATE.fullmatch(text):
            raise ValueError(text)  # noqa: TRY301  told below, as are days that no month has
        date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"is no date: {_short(text)}. Write it as 2026-11-30") from None
    return text


def _check_url(text: str) -> str:
    text = _check_long(text)
    if not URL.fullmatch(text):
        raise ValueError(f"is no address: {_short(text)}. It begins with https:// or http://")
    return text


_check_name, _check_word = _text(LONGEST_NAME), _text(LONGEST_WORD)
_check_targeting = _text(LONGEST_TARGETING, may_be_empty=True)
CHECKS: Mapping[str, Check] = {
    "campaign_id": _check_id,
    "campaign_name": _check_name,
    "campaign_budget": _check_decimal,
    "start_date": _check_date,
    "end_date": _check_date,
    "objective": _check_word,
    "ad_group_id": _check_id,
    "ad_group_name": _check_name,
    "bid": _check_decimal,
    "targeting_ages": _check_targeting,
    "targeting_interests": _check_targeting,
    "targeting_geo": _check_targeting,
    "ad_id": _check_id,
    "ad_type": _check_word,
    "creative_url": _check_url,
    "click_url": _check_url,
    "status": _check_word,
}


def check_dates(start_date: str, end_date: str) -> None:
    """Of two that have passed their own checks. Raises ValueError, about the end."""
    if end_date < start_date:
        raise ValueError(f"is before the start, {start_date}")


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")


# from JSON


class _Place(NamedTuple):
    """Where something stands in the body: `ad_groups[2].ads[0]`."""

    path: str

    def at(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name


def parse_campaign(given: object) -> Campaign:
    """Of JSON, or of what was decoded from it. Raises Invalid, whose `field` is the place: `ad_groups[2].bid`."""
    found = _decode(given) if isinstance(given, bytes) else given
    place = _Place("")
    cells = _cells(found, place, CAMPAIGN_COLUMNS, holds="ad_groups")
    try:
        check_dates(cells["start_date"], cells["end_date"])
    except ValueError as error:
        raise _wrong("end_date", str(error)) from error
    groups = _list(found, place, "ad_groups", most=MOST_GROUPS)
    campaign = Campaign(**cells, ad_groups=tuple(_group(each, at) for each, at in groups))
    _check_unlike(campaign)
    if campaign.ad_count > MOST_ADS:
        raise _wrong("ad_groups", f"have {campaign.ad_count:,} ads; a campaign has {MOST_ADS:,} at most")
    return campaign


def _decode(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"This is not JSON: {error}.") from error


def _group(found: object, place: _Place) -> AdGroup:
    cells = _cells(found, place, GROUP_COLUMNS, holds="ads")
    ads = _list(found, place, "ads", most=MOST_ADS)
    return AdGroup(**cells, ads=tuple(Ad(**_cells(each, at, AD_COLUMNS)) for each, at in ads))


def _cells(found: object, place: _Place, columns: Sequence[str], *, holds: str | None = None) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise _wrong(place.path, "is no object")
    for name in found:
        if name not in columns and name != holds:
            raise _wrong(place.at(str(name)[:LONGEST_ID]), "is no field of it")
    return {column: _cell(found, place, column) for column in columns}


def _cell(found: Mapping[str, object], place: _Place, column: str) -> str:
    if column not in found and not column.startswith("targeting_"):
        raise _wrong(place.at(column), "is missing")
    try:
        return CHECKS[column](_as_text(found.get(column, ""), column))
    except ValueError as error:
        raise _wrong(place.at(column), str(error)) from error


def _as_text(value: object, column: str) -> str:
    """Some number what they have, and amounts are numbers to most."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and column.endswith(("_id", "bid", "budget")):
        return str(value)
    if isinstance(value, float) and column.endswith(("bid", "budget")):
        # the shortest decimal that is this number: what was written
        return f"{Decimal(repr(value)):f}"
    raise ValueError("is no text")


def _list(found: Any, place: _Place, name: str, *, most: int) -> Iterator[tuple[object, _Place]]:
    where, given = place.at(name), found.get(name)
    if not isinstance(given, list) or not given:
        raise _wrong(where, "must be a list of at least one")
    if len(given) > most:
        raise _wrong(where, f"are {len(given):,}; {most:,} at most")
    return ((each, _Place(f"{where}[{number}]")) for number, each in enumerate(given))


def _check_unlike(campaign: Campaign) -> None:
    """Raises Invalid if two ad groups of it have one id, or two ads."""
    places: dict[tuple[str, str], str] = {}
    for number, group in enumerate(campaign.ad_groups):
        here = f"ad_groups[{number}]"
        named = [("ad_group_id", group.ad_group_id, f"{here}.ad_group_id")]
        named += [("ad_id", ad.ad_id, f"{here}.ads[{position}].ad_id") for position, ad in enumerate(group.ads)]
        for column, id, place in named:
            if (earlier := places.setdefault((column, id), place)) != place:
                raise _wrong(place, f"is {_short(id)}, as {earlier} is already")


def _wrong(place: str, fault: str) -> Invalid:
    return Invalid(f"{place or 'The body'} {fault}.", field=place or None)
