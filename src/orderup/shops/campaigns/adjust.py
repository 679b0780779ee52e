"""The kinds of tasks as the owner has set them: what the platform allows, and how it is shared out."""

from collections.abc import Mapping
from datetime import timedelta

from msgspec.structs import replace

from orderup.model.kind import Kind, Rate
from orderup.settings import Settings
from orderup.shops.campaigns.plan import FOLLOW, LOOKS, PLATFORM


def adjust(settings: Settings, kinds: Mapping[str, Kind]) -> Mapping[str, Kind]:
    rate = Rate(settings.dsp_requests_a_minute, timedelta(minutes=1))
    return share_out(kinds, rate, look_seconds=settings.dsp_poll_seconds)


def share_out(kinds: Mapping[str, Kind], rate: Rate, *, look_seconds: float) -> Mapping[str, Kind]:
    """Of what the platform allows, as much is kept for the look at customers' tasks as it needs to come every
    `look_seconds`, a quarter at most: it would wait for most of a minute whenever campaigns have used up the rest.
    Those who ask how something stands get half of it all, together with the look."""
    kept = max(1, min(int(rate.period.total_seconds() / look_seconds), rate.count // 4))
    rest = rate.count - kept
    # in hundredths, for people; rounded down
    share = max(0.01, int(100 * (rate.count // 2 - kept) / rest) / 100)
    allowed = {
        LOOKS.name: replace(LOOKS, rate=Rate(kept, rate.period)),
        PLATFORM.name: replace(PLATFORM, rate=Rate(rest, rate.period)),
    }

    def adjusted(kind: Kind) -> Kind:
        if kind.allowance is None:
            return kind
        return replace(kind, allowance=allowed[kind.allowance.name], share=share if kind.name == FOLLOW else kind.share)

    return {name: adjusted(kind) for name, kind in kinds.items()}
