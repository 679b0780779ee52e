"""The routes of campaigns: what they refuse, and what they leave alone."""

from typing import Any

from orderup.engine.limit import pause_queue
from orderup.model.ids import read_id
from orderup.model.operation import OperationStatus
from orderup.shops.campaigns.campaigns_api import CAMPAIGN
from tests.shops.campaigns.files import many, text_of
from tests.shops.served import Served


async def test_what_no_schema_says_is_refused_by_the_fields_name(one_desk: Served) -> None:
    sample: dict[str, Any] = dict(CAMPAIGN)
    [group] = sample["ad_groups"]
    for change, field in (
        ({"end_date": "2026-02-30"}, "body.end_date"),
        ({"ad_groups": []}, "body.ad_groups"),
        ({"ad_groups": [group, {**group, "ad_group_id": "old", "bid": "much"}]}, "body.ad_groups.1.bid"),
    ):
        answer = await one_desk.client.post(f"{one_desk.front}/campaigns", json={**sample, **change})
        assert answer.status_code == 422, field
        assert [each["field"] for each in answer.json()["errors"]] == [field]


async def test_an_import_under_way_is_not_cancelled_as_a_campaign(one_desk: Served) -> None:
    engine = one_desk.house.engine
    await pause_queue(engine, "campaigns/place_campaigns", by="ann")
    url, headers = f"{one_desk.front}/campaigns/import", {"Content-Type": "text/csv"}
    shown = (await one_desk.client.post(url, content=text_of(many(1)), headers=headers)).json()
    id = (await one_desk.client.post(shown["links"]["start"])).json()["operation_id"]
    assert (await one_desk.client.delete(f"{one_desk.front}/campaigns/{id}")).status_code == 404
    found = (await engine.database.load([read_id(id)]))[read_id(id)]
    assert found.status is OperationStatus.RUNNING
