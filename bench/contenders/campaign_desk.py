"""The campaign desk, whose platform allows so many requests in another window than a minute: BENCH_ALLOWANCE=200/10.

Served by `orderup serve bench.contenders.campaign_desk:shop`.
"""

import os
from collections.abc import Mapping
from datetime import timedelta

from orderup.model.kind import Kind, Rate
from orderup.settings import Settings
from orderup.shops.campaigns import shop
from orderup.shops.campaigns.adjust import share_out


def adjust(settings: Settings, kinds: Mapping[str, Kind]) -> Mapping[str, Kind]:
    count, _, seconds = os.environ["BENCH_ALLOWANCE"].partition("/")
    rate = Rate(int(count), timedelta(seconds=float(seconds)))
    return share_out(kinds, rate, look_seconds=settings.dsp_poll_seconds)


shop.adjust = adjust
