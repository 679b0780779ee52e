"""What a campaign is, as JSON has it."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from orderup.errors import Invalid
from orderup.shops.campaigns.campaign import CHECKS, COLUMNS, MOST_ADS, MOST_GROUPS, Ad, parse_campaign

AD = {
    "ad_id": "ad-1",
    "ad_type": "banner",
    "creative_url": "https://cdn.example/a.png",
    "click_url": "https://shop.example/?a=1",
    "status": "active",
}
GROUP: Mapping[str, Any] = {
    "ad_group_id": "group-1",
    "ad_group_name": "Paris, young",
    "bid": "1.50",
    "targeting_ages": "18-24",
    "targeting_interests": "music; films",
    "targeting_geo": "FR",
    "ads": [AD],
}
CAMPAIGN: Mapping[str, Any] = {
    "campaign_id": "campaign-1",
    "campaign_name": "Été 👩‍👩‍👧",
    "campaign_budget": "1000.10",
    "start_date": "2026-06-01",
    "end_date": "2026-06-30",
    "objective": "reach",
    "ad_groups": [GROUP],
}


def test_a_campaign_is_read_as_it_was_written() -> None:
    campaign = parse_campaign(msgspec.json.encode(CAMPAIGN))
    assert msgspec.json.decode(msgspec.json.encode(campaign)) == CAMPAIGN
    assert campaign.ad_groups[0].ads == (Ad(**AD),)
    assert (campaign.ad_count, campaign.submissions) == (1, 3)


def test_numbers_are_taken_as_the_text_they_were() -> None:
    group = {**GROUP, "ad_group_id": 7, "bid": 0.1}
    campaign = parse_campaign({**CAMPAIGN, "campaign_id": 12, "campaign_budget": 5000, "ad_groups": [group]})
    assert (campaign.campaign_id, campaign.campaign_budget, campaign.ad_groups[0].bid) == ("12", "5000", "0.1")


def test_who_is_targeted_may_be_left_out() -> None:
    group = {name: value for name, value in GROUP.items() if not name.startswith("targeting_")}
    assert parse_campaign({**CAMPAIGN, "ad_groups": [group]}).ad_groups[0].targeting_geo == ""


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"end_date": "2026-05-31"}, "end_date", "before the start, 2026-06-01"),
        ({"start_date": "2026-02-30"}, "start_date", "is no date"),
        ({"start_date": "20260601"}, "start_date", "is no date"),
        ({"campaign_budget": "0.00"}, "campaign_budget", "is 0"),
        ({"campaign_budget": "1,000"}, "campaign_budget", "is no amount"),
        ({"campaign_budget": "-1"}, "campaign_budget", "is no amount"),
        ({"campaign_budget": True}, "campaign_budget", "is no text"),
        ({"campaign_id": " "}, "campaign_id", "is empty"),
        ({"campaign_id": "x" * 101}, "campaign_id", "has 101 characters; 100 at most"),
        ({"campaign_id": "a b"}, "campaign_id", "visible characters only"),
        ({"campaign_id": "a\u200bb"}, "campaign_id", "visible characters only"),
        ({"campaign_name": "a\nb"}, "campaign_name", "a line break"),
        ({"campaign_name": "a\u202eb"}, "campaign_name", "a control character"),
        ({"campaign_name": "a\x00b"}, "campaign_name", "a control character"),
        ({"colour": "red"}, "colour", "is no field of it"),
        ({"ad_groups": []}, "ad_groups", "at least one"),
        ({"ad_groups": [GROUP, GROUP]}, "ad_groups[1].ad_group_id", "as ad_groups[0].ad_group_id is already"),
        ({"ad_groups": [GROUP, 3]}, "ad_groups[1]", "is no object"),
        ({"ad_groups": [GROUP] * (MOST_GROUPS + 1)}, "ad_groups", "are 1,001; 1,000 at most"),
        ({"ad_groups": [{**GROUP, "bid": "a"}]}, "ad_groups[0].bid", "is no amount"),
        ({"ad_groups": [{**GROUP, "ads": [AD, AD]}]}, "ad_groups[0].ads[1].ad_id", "as ad_groups[0].ads[0].ad_id is"),
        ({"ad_groups": [{**GROUP, "ads": [{**AD, "click_url": "ftp://a"}]}]}, "ad_groups[0].ads[0].click_url", "is no"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(change: Mapping[str, Any], field: str, words: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_campaign({**CAMPAIGN, **change})
    assert refused.value.field == field
    assert words in str(refused.value)


def test_one_ad_too_many_is_told() -> None:
    halves = [{**AD, "ad_id": str(number)} for number in range(MOST_ADS // 2)]
    others = [{**AD, "ad_id": f"b{number}"} for number in range(MOST_ADS // 2)]
    groups = [{**GROUP, "ads": halves}, {**GROUP, "ad_group_id": "b", "ads": others}]
    assert parse_campaign({**CAMPAIGN, "ad_groups": groups}).ad_count == MOST_ADS
    groups.append({**GROUP, "ad_group_id": "c", "ads": [{**AD, "ad_id": "c"}]})
    with pytest.raises(Invalid, match="have 10,001 ads; a campaign has 10,000 at most"):
        parse_campaign({**CAMPAIGN, "ad_groups": groups})


@pytest.mark.parametrize("column", [name for name in CAMPAIGN if name != "ad_groups"])
def test_what_is_missing_is_named(column: str) -> None:
    with pytest.raises(Invalid, match=f"{column} is missing"):
        parse_campaign({name: value for name, value in CAMPAIGN.items() if name != column})


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"3", b"null", b"\xff", b"[" * 100_000])
def test_what_is_no_campaign_at_all_is_refused(body: bytes) -> None:
    with pytest.raises(Invalid):
        parse_campaign(body)


@pytest.mark.parametrize(
    ("url", "is_good"),
    [
        ("http://a", True),
        ("HTTPS://A.example:8443/x?y#z", True),
        ("http://[::1]/x", True),
        ("https://münchen.example/ä", True),
        ("//a.example", False),
        ("http://", False),
        ("http:///x", False),
        ("http://a b", False),
        ("javascript:alert(1)", False),
        ("http://a\\b", False),
    ],
)
def test_addresses_are_those_of_the_web(url: str, *, is_good: bool) -> None:
    if is_good:
        assert CHECKS["click_url"](url) == url
    else:
        with pytest.raises(ValueError, match="is no address"):
            CHECKS["click_url"](url)


def test_every_column_has_its_check() -> None:
    assert set(CHECKS) == set(COLUMNS)
    assert len(COLUMNS) == 17
