"""Files of campaigns, as people make them."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from orderup.shops.campaigns.campaign import COLUMNS

ROW: Mapping[str, str] = {
    "campaign_id": "summer",
    "campaign_name": "Summer, again",
    "campaign_budget": "1000.50",
    "start_date": "2026-06-01",
    "end_date": "2026-06-30",
    "objective": "reach",
    "ad_group_id": "young",
    "ad_group_name": "The young",
    "bid": "1.25",
    "targeting_ages": "18-24",
    "targeting_interests": "music, films",
    "targeting_geo": "FR",
    "ad_id": "ad-1",
    "ad_type": "banner",
    "creative_url": "https://cdn.example/1.png",
    "click_url": "https://shop.example/?ad=1",
    "status": "active",
}


def row(**cells: str) -> dict[str, str]:
    return {**ROW, **cells}


def text_of(rows: Sequence[Mapping[str, str]], *, columns: Sequence[str] = COLUMNS) -> str:
    written = io.StringIO()
    writer = csv.DictWriter(written, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return written.getvalue()


def write(path: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    path.write_text(text_of(rows), encoding="utf-8")
    return path


def many(campaigns: int, *, groups: int = 2, ads: int = 3) -> list[dict[str, str]]:
    """Of each campaign so many ad groups, of each of those so many ads."""
    return [
        row(campaign_id=f"campaign-{one}", ad_group_id=f"group-{two}", ad_id=f"ad-{two}-{three}")
        for one in range(campaigns)
        for two in range(groups)
        for three in range(ads)
    ]
