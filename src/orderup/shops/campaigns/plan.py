"""From campaigns to plans. Pure.

Each thing that the platform is given is two tasks: one submits it, one asks after it until it stands. What belongs to
it comes after that; everything else goes on at the same time.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from msgspec.structs import asdict

from orderup import Plan, PlannedTask, Retry, Shop
from orderup.shops.campaigns.campaign import Campaign

shop = Shop(
    "campaigns",
    title="Campaign desk",
    about="Ad campaigns, submitted to an advertising platform at the pace it allows.",
)

SUBMIT, FOLLOW = "submit", "follow"
CAMPAIGN, AD_GROUP, AD = "campaign", "ad_group", "ad"
# What is submitted goes first: ads before ad groups, these before campaigns. Who asks how something stands comes after
# all that, so that of very many campaigns all are submitted before the first ad group is.
PRIORITY = {AD: 0, AD_GROUP: 1, CAMPAIGN: 2}
ASKS_LATER, ASKS_SHARE = 3, 0.5
# A million ads at 40 a minute take 17 days, and the platform may take its time to judge the last of them.
PATIENT = timedelta(days=365)
# Some four days of tries, half an hour apart at last; resting does not count as one.
STUBBORN = Retry(attempts=200, first=timedelta(seconds=2), longest=timedelta(minutes=30))
# How much the platform allows is the owner's to say (adjust.py). The look at customers' tasks, one request for all of
# them, has its own part, so that it comes when it is due.
PLATFORM = shop.allowance("platform", "34/minute", third_party="platform")
LOOKS = shop.allowance("looks", "6/minute", third_party="platform")

WORDS = {
    "operation.placed": "The campaign is here",
    "operation.completed": "The campaign stands",
    "operation.errored": "Something of the campaign went wrong",
    "operation.cancelled": "The campaign was cancelled",
}


def plan_campaign(campaign: Campaign) -> Plan:
    """Tasks are named by places: `ad 2.31` submits the 31st ad of the second ad group, `ad 2.31 stands` follows it."""
    return Plan(list(_tasks(campaign)), words=WORDS)


def _tasks(campaign: Campaign) -> Iterator[PlannedTask]:
    yield from _pair(CAMPAIGN, CAMPAIGN, _without(campaign, "ad_groups"), after=None)
    for number, group in enumerate(campaign.ad_groups, 1):
        name = f"group {number}"
        yield from _pair(AD_GROUP, name, _without(group, "ads"), after=CAMPAIGN)
        for place, ad in enumerate(group.ads, 1):
            yield from _pair(AD, f"ad {number}.{place}", asdict(ad), after=name)


def _pair(sort: str, name: str, fields: Mapping[str, Any], *, after: str | None) -> Iterator[PlannedTask]:
    """What submits it, once what it belongs to stands, and what follows it."""
    before = [] if after is None else [stands(after)]
    params = {"sort": sort, "fields": fields}
    yield PlannedTask(name, params, after=before, kind=SUBMIT, priority=PRIORITY[sort])
    yield PlannedTask(stands(name), {"sort": sort}, after=[name], kind=FOLLOW, priority=ASKS_LATER)


def stands(name: str) -> str:
    """The task that follows what this one submits."""
    return f"{name} stands"


def _without(thing: Any, *names: str) -> dict[str, Any]:
    return {name: value for name, value in asdict(thing).items() if name not in names}
