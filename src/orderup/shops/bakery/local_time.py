"""Days and hours as the bakery's clock on the wall has them."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo


def today(zone: str) -> date:
    return datetime.now(ZoneInfo(zone)).date()


def at_the_bakery(moment: int, zone: str) -> str:
    """`01/01/2022 06:10`. moment: microseconds since the epoch."""
    return datetime.fromtimestamp(moment / 1e6, UTC).astimezone(ZoneInfo(zone)).strftime("%d/%m/%Y %H:%M")
