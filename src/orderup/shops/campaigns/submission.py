"""The handlers that submit a campaign, its ad groups and its ads, and that follow what becomes of them.

Each call of a handler is one request at most, for each counts against what the platform allows. That something is about
to be submitted is remembered before it is: whoever finds that in the memo asks the platform first, and where it cannot
be asked a person decides.
"""

import time
from datetime import timedelta
from typing import Any

from orderup import Context, TaskFailed, Wait
from orderup.errors import OutcomeUnknown, Resting, UpstreamFailed, UpstreamRefused
from orderup.integrations import dsp
from orderup.integrations.dsp import CannotSearch, Sort, Verdict
from orderup.shops.campaigns.plan import (
    AD,
    AD_GROUP,
    ASKS_SHARE,
    CAMPAIGN,
    FOLLOW,
    PATIENT,
    PLATFORM,
    STUBBORN,
    SUBMIT,
    shop,
)
from orderup.shops.campaigns.services import Services

SORTS = {CAMPAIGN: dsp.CAMPAIGN, AD_GROUP: dsp.AD_GROUP, AD: dsp.AD}
# What each belongs to, by the name under which the platform wants that one's id.
BELONGS_TO = {AD_GROUP: dsp.CAMPAIGN.id, AD: dsp.AD_GROUP.id}
UNKNOWN, REJECTED = "submission unknown", "The platform rejected it"
LONGEST_PAUSE = 60.0
MOST_DOUBLINGS = 20
TIMEOUT = timedelta(minutes=6)
# What part of a call's time may lie between saying that something is about to be submitted and doing so: with less
# left than the rest it is not worth beginning.
LONGEST_BREATH = 0.5
# What a memo says: since when it may have been submitted; that the platform has none of it, so far as it knows; and
# which one it is, as a person has found out.
AT, ABSENT, FOUND = "at", "absent", "found"


@shop.handler(
    SUBMIT,
    says="Submitting",
    retry=STUBBORN,
    within=PATIENT,
    timeout=TIMEOUT,
    allowance=PLATFORM,
    once=True,
)
async def submit(context: Context) -> Any:
    """The platform's id of it, as `{"id": …}`."""
    memo = context.memo or {}
    if FOUND in memo:
        return await _take_over(context, memo[FOUND])
    if AT in memo and ABSENT not in memo:
        return await _look_for_it(context, memo)
    return await _submit_it(context)


async def _take_over(context: Context, id: str) -> Any:
    """What a person says that the platform has: it is asked, for a slip of the keyboard would last for ever."""
    services: Services = context.resources
    try:
        doubt = None if await services.dsp.knows(_sort(context), id) else f"the platform does not know {id}"
    except UpstreamRefused as error:
        doubt = f"the platform does not say whether it has {id} ({error})"
    if doubt is not None:
        await context.remember({AT: services.now()})
        raise TaskFailed(f"{UNKNOWN}: {doubt}. Look there again, then say so.", final=True)
    return {"id": id}


async def _submit_it(context: Context) -> Any:
    services: Services = context.resources
    seconds = services.settings.dsp_deadline_seconds
    began = time.monotonic()
    await context.remember({AT: services.now()})
    if time.monotonic() - began > LONGEST_BREATH * seconds:
        return Wait(0, memo={}, was_sent=False)  # the database was slow, or this process stood still
    try:
        # whoever finds that memo takes the call to be over by then
        ends_at = began + seconds
        id = await services.dsp.submit(_sort(context), _body(context), our_id=context.task_id, ends_at=ends_at)
    except OutcomeUnknown:
        raise
    except (Resting, UpstreamFailed, UpstreamRefused):
        await context.remember({})  # it was certainly not submitted
        raise
    return {"id": id}


def _sort(context: Context) -> Sort:
    return SORTS[context.params["sort"]]


def _body(context: Context) -> dict[str, Any]:
    """Its fields but for its owner's id, and the platform's id of what it belongs to."""
    sort, fields = context.params["sort"], context.params["fields"]
    own = {name: value for name, value in fields.items() if name != SORTS[sort].id}
    if sort not in BELONGS_TO:
        return own
    [parent] = context.inputs.values()
    return {**own, BELONGS_TO[sort]: parent["id"]}


async def _look_for_it(context: Context, memo: dict[str, Any]) -> Any:
    """What became of an attempt of which nobody said whether it submitted anything."""
    services: Services = context.resources
    settings = services.settings
    # it may have arrived as late as we would have waited for its answer
    left = memo[AT] + settings.dsp_deadline_seconds + settings.dsp_search_seconds - services.now()
    if left > 0:
        return Wait(left, was_sent=False)
    try:
        found = await services.dsp.find(_sort(context), context.task_id)
    except CannotSearch as why:
        raise TaskFailed(
            f"{UNKNOWN}: the platform may have it, and {why}. Look there, then say on the campaign's page whether it "
            "has it.",
            final=True,
        ) from None
    return Wait(0, memo={**memo, ABSENT: True}) if found is None else {"id": found}


@shop.handler(FOLLOW, retry=STUBBORN, within=PATIENT, timeout=TIMEOUT, allowance=PLATFORM, share=ASKS_SHARE)
async def follow(context: Context) -> Any:
    """The platform's id of what stands now, as `{"id": …}`. `memo`: how often it was asked."""
    [submitted] = context.inputs.values()
    services: Services = context.resources
    first = services.settings.dsp_status_seconds
    if context.memo is None:
        return Wait(first, memo={"asked": 0}, was_sent=False)
    asked = context.memo["asked"] + 1
    status = await services.dsp.ask(_sort(context), submitted["id"])
    if status.verdict is Verdict.FAILED:
        raise TaskFailed(f"{REJECTED}{f': {status.error}' if status.error else ''}", final=True)
    if status.verdict is Verdict.SUCCESS:
        return {"id": submitted["id"]}
    return Wait(max(first, min(first * 2 ** min(asked, MOST_DOUBLINGS), LONGEST_PAUSE)), memo={"asked": asked})
