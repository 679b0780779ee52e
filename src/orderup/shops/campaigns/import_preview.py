"""What is in a file of campaigns, and how long it takes, in sentences."""

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from orderup.shops.campaigns.imports import Import
from orderup.shops.campaigns.reading import Problem


class Estimate(NamedTuple):
    """How long the platform takes. least: if nothing were asked after; usual: if everything is, once."""

    least: timedelta
    usual: timedelta


def estimate(campaigns: int, groups: int, ads: int, a_minute: int) -> Estimate:
    """With so many requests a minute, of which those that ask get half at most."""
    least = timedelta(minutes=(campaigns + groups + ads) / a_minute)
    return Estimate(least, 2 * least)


def in_words(length: timedelta) -> str:
    """Such as `17 days`: a length of time as people say it, in one unit."""
    for unit, seconds in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        count = round(length.total_seconds() / seconds)
        if length.total_seconds() >= 2 * seconds or (count >= 1 and unit == "minute"):
            return f"{count:,} {unit}" if count == 1 else f"{count:,} {unit}s"
    return "less than a minute"


def preview_lines(found: Import, problems: Sequence[Problem], *, a_minute: int) -> list[str]:
    """What is in a file, in sentences. problems: the first of them, to be shown."""
    lines = [
        (
            f"{found.name}: {found.rows:,} rows, {found.campaigns:,} campaigns with {found.ad_groups:,} ad groups "
            f"and {found.ads:,} ads"
        )
    ]
    if found.errors:
        wrong = (
            "1 thing is wrong; its row is" if found.errors == 1 else f"{found.errors:,} things are wrong; the rows are"
        )
        lines += [f"{wrong} left out:", *map(told, problems)]
        more = found.errors - len(problems)
        lines += [f"  and {more:,} more"] if more else []
    if found.here:
        lines.append(f"{found.here:,} of the campaigns are here already and are left out")
    if found.campaigns:
        took = estimate(found.campaigns, found.ad_groups, found.ads, a_minute)
        lines.append(
            f"At {a_minute:,} requests a minute the platform takes {in_words(took.least)} at least, and "
            f"{in_words(took.usual)} if everything is asked after once"
        )
    return lines


def told(problem: Problem) -> str:
    where = f"line {problem.line:,}" + (f", {problem.column}" if problem.column else "")
    return f"  {where} {problem.message}"
