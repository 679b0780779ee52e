"""The dashboard and the alerts in deploy/ ask for figures that there are, by labels that they have."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # brings no types
from prometheus_client.parser import text_string_to_metric_families

from tests.serving import ROOT, sqlite_url
from tests.shops.mealbox.conftest import open_kiosk

DEPLOY = ROOT / "deploy"
NAME = re.compile(r"\b(?:orderup|process)_[a-z_]+")
# Such as {shop=~"$shop",type="x"} after a name, and by (shop, le).
ASKED = re.compile(r"\b((?:orderup|process)_[a-z_]+)(?:\{([^}]*)\})?")
GROUPED = re.compile(r"\bby \(([^)]*)\)")
# Of whoever scrapes.
SCRAPED = {"instance", "job"}


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((DEPLOY / "grafana" / "orderup.json").read_text())["panels"]
    return found


def alerts() -> list[dict[str, Any]]:
    [group] = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def expressions() -> Iterator[str]:
    for panel in panels():
        yield from (target["expr"] for target in panel["targets"])
    yield from (alert["expr"] for alert in alerts())


async def figures(tmp_path: Path) -> dict[str, set[str]]:
    """The labels of each series of a shop that has asked its services and cannot reach its broker."""
    async with open_kiosk(sqlite_url(tmp_path), rabbitmq_url="amqp://guest:guest@127.0.0.1:1/") as kiosk:
        assert (await kiosk.order()).status_code == 201
        text = (await kiosk.client.get(f"{kiosk.back}/metrics")).text
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for name in (family.name, f"{family.name}_total", f"{family.name}_bucket"):
            labels = [set(sample.labels) for sample in family.samples if sample.name == name]
            if labels or name == family.name:
                found[name] = set().union(*labels)
        if suffix := {"counter": "_total", "histogram": "_bucket"}.get(family.type):
            found.setdefault(f"{family.name}{suffix}", set())
    return found


async def test_every_figure_that_is_asked_for_is_there_with_its_labels(tmp_path: Path) -> None:
    known = await figures(tmp_path)
    asked = list(expressions())
    assert len(asked) >= 20
    assert {name for text in asked for name in NAME.findall(text)} - known.keys() == set()
    for text in asked:
        names = [(name, re.findall(r"(\w+)=", filters)) for name, filters in ASKED.findall(text)]
        grouped = {label.strip() for labels in GROUPED.findall(text) for label in labels.split(",")} - SCRAPED
        for name, filters in names:
            if known[name]:  # nothing was counted under it yet
                assert grouped | set(filters) <= known[name], text


def test_every_alert_says_what_to_do() -> None:
    for alert in alerts():
        assert alert["labels"]["severity"] in ("warning", "critical")
        assert alert["annotations"]["summary"]
        assert alert["annotations"]["action"]


def test_no_panel_covers_another() -> None:
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels()]
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in panels()}) == len(places)


@pytest.mark.parametrize("name", ["alerts.yml", "metrics_token"])
def test_prometheus_is_told_of_its_rules_and_its_token(name: str) -> None:
    settings = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    [job] = settings["scrape_configs"]
    assert name in (*settings["rule_files"], job["authorization"]["credentials_file"])
