"""Campaigns as staff sends them."""

from typing import Any


def campaign(name: str = "spring", *, groups: int = 2, ads: int = 2, rejected: str | None = None) -> dict[str, Any]:
    """`rejected`: the id of the ad or the ad group that the platform will not have."""
    return {
        "campaign_id": name,
        "campaign_name": f"Campaign {name}",
        "campaign_budget": "1000.50",
        "start_date": "2026-03-01",
        "end_date": "2026-03-31",
        "objective": "sales",
        "ad_groups": [_group(number, ads, rejected) for number in range(1, groups + 1)],
    }


def _group(number: int, ads: int, rejected: str | None) -> dict[str, Any]:
    id = f"g{number}"
    return {
        "ad_group_id": id,
        "ad_group_name": "reject me" if id == rejected else f"Group {number}",
        "bid": 0.25,
        "targeting_ages": "18-25",
        "targeting_interests": "music",
        "targeting_geo": "FR",
        "ads": [_ad(f"{id}a{place}", rejected) for place in range(1, ads + 1)],
    }


def _ad(id: str, rejected: str | None) -> dict[str, Any]:
    return {
        "ad_id": id,
        "ad_type": "reject" if id == rejected else "banner",
        "creative_url": f"https://cdn.example.com/{id}.png",
        "click_url": "https://example.com/",
        "status": "active",
    }
