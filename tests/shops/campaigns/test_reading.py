"""Files of campaigns, read a slice at a time."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from orderup.errors import Invalid
from orderup.shops.campaigns.campaign import CAMPAIGN_COLUMNS, COLUMNS, GROUP_COLUMNS, MOST_GROUPS, Campaign
from orderup.shops.campaigns.reading import Part, Problem, merge, read_slices
from tests.shops.campaigns.files import many, row, text_of


def read(content: str | bytes, path: Path, *, rows: int = 10_000) -> tuple[dict[str, Campaign], list[Problem]]:
    """Its campaigns, and what is wrong."""
    file = path / "campaigns.csv"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    parts: dict[str, list[Part]] = {}
    problems: list[Problem] = []
    for found in read_slices(file, rows=rows):
        problems += found.problems
        for id, part in found.parts.items():
            parts.setdefault(id, []).append(part)
    campaigns = {}
    for id, some in parts.items():
        campaign, found_between = merge(some)
        problems += found_between
        if campaign is not None:
            campaigns[id] = campaign
    return campaigns, problems


def shape(campaigns: Mapping[str, Campaign]) -> dict[str, dict[str, list[str]]]:
    return {
        id: {group.ad_group_id: [ad.ad_id for ad in group.ads] for group in campaign.ad_groups}
        for id, campaign in campaigns.items()
    }


def told(problems: Sequence[Problem]) -> list[tuple[int, str | None]]:
    return [(problem.line, problem.column) for problem in problems]


# what can be read


@pytest.mark.parametrize("slice_rows", [1, 7, 10_000])
def test_rows_are_grouped_wherever_they_lie(tmp_path: Path, seed: int, slice_rows: int) -> None:
    rows = many(5, groups=3, ads=4)
    in_order, _ = read(text_of(rows), tmp_path)
    random.Random(seed).shuffle(rows)
    campaigns, problems = read(text_of(rows), tmp_path, rows=slice_rows)
    assert problems == []
    expected = {id: {name: sorted(ads) for name, ads in groups.items()} for id, groups in shape(in_order).items()}
    assert {
        id: {name: sorted(ads) for name, ads in groups.items()} for id, groups in shape(campaigns).items()
    } == expected
    assert len(expected) == 5
    assert all(len(groups) == 3 for groups in expected.values())


def test_an_ad_group_is_its_campaigns_own(tmp_path: Path) -> None:
    rows = [row(), row(campaign_id="winter", ad_group_name="Others", bid="9")]
    campaigns, problems = read(text_of(rows), tmp_path)
    assert problems == []
    assert [campaigns[id].ad_groups[0].bid for id in ("summer", "winter")] == ["1.25", "9"]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_and_a_byte_order_mark_are_no_matter(tmp_path: Path, mark: bytes, end: str) -> None:
    text = text_of([row(), row(ad_id="ad-2", bid="x")]).replace("\n", end)
    campaigns, problems = read(mark + text.encode(), tmp_path)
    assert shape(campaigns) == {"summer": {"young": ["ad-1"]}}
    assert told(problems) == [(3, "bid")]


def test_the_last_line_may_have_no_end(tmp_path: Path) -> None:
    campaigns, problems = read(text_of([row()]).rstrip(), tmp_path)
    assert (len(campaigns), problems) == (1, [])


def test_columns_come_in_any_order_and_case(tmp_path: Path) -> None:
    text = text_of([row()], columns=COLUMNS[::-1])
    header, _, rest = text.partition("\n")
    campaigns, problems = read(f" {header.upper()}\n{rest}", tmp_path)
    assert problems == []
    assert campaigns == read(text_of([row()]), tmp_path)[0]


def test_quotes_hold_commas_and_quotes(tmp_path: Path) -> None:
    campaigns, problems = read(text_of([row(campaign_name='5" and, more')]), tmp_path)
    assert problems == []
    assert campaigns["summer"].campaign_name == '5" and, more'


def test_empty_lines_and_lines_of_commas_are_nothing(tmp_path: Path) -> None:
    header, first, second = text_of([row(), row(ad_id="ad-2", bid="x")]).splitlines()
    commas = "," * (len(COLUMNS) - 1)
    campaigns, problems = read(f"\n{header}\n\n{first}\n{commas}\n\n{second}\n\n", tmp_path)
    assert shape(campaigns) == {"summer": {"young": ["ad-1"]}}
    assert told(problems) == [(7, "bid")]


def test_a_file_of_nothing_but_its_header_has_no_campaigns(tmp_path: Path) -> None:
    assert read(text_of([]), tmp_path) == ({}, [])


# rows that are wrong


def test_each_wrong_cell_is_told_with_its_line_and_column_and_the_rest_is_read(tmp_path: Path) -> None:
    rows = [row(), row(ad_id="", bid="free", click_url="x"), row(ad_id="ad-3")]
    campaigns, problems = read(text_of(rows), tmp_path)
    assert shape(campaigns) == {"summer": {"young": ["ad-1", "ad-3"]}}
    assert told(problems) == [(3, "bid"), (3, "ad_id"), (3, "click_url")]


def test_a_cell_over_several_lines_is_told_and_the_rows_after_it_are_read(tmp_path: Path) -> None:
    rows = [row(), row(ad_id="ad-2", targeting_geo="FR\nDE\nIT"), row(ad_id="ad-3", status=""), row(ad_id="ad-4")]
    campaigns, problems = read(text_of(rows), tmp_path)
    assert told(problems) == [(3, "targeting_geo"), (4, None), (5, None), (6, "status")]
    assert "not closed in this line" in problems[0].message
    assert shape(campaigns) == {"summer": {"young": ["ad-1", "ad-4"]}}


def test_a_cell_with_another_end_of_a_line_in_it_is_wrong(tmp_path: Path) -> None:
    _, problems = read(text_of([row(targeting_geo="FR\u2028DE")]), tmp_path)
    assert told(problems) == [(2, "targeting_geo")]
    assert "line break" in problems[0].message


@pytest.mark.parametrize(("change", "word"), [("cut", "fewer"), ("add", "more")])
def test_a_row_with_too_few_or_too_many_cells_is_wrong(tmp_path: Path, change: str, word: str) -> None:
    header, first, second = text_of([row(), row(ad_id="ad-2")]).splitlines()
    second = second.rpartition(",")[0] if change == "cut" else second + ",x"
    campaigns, problems = read(f"{header}\n{first}\n{second}", tmp_path)
    assert shape(campaigns) == {"summer": {"young": ["ad-1"]}}
    assert told(problems) == [(3, None)]
    assert word in problems[0].message


def test_a_nul_is_wrong_and_the_rest_is_read(tmp_path: Path) -> None:
    campaigns, problems = read(text_of([row(campaign_name="a\0b"), row(campaign_id="winter")]), tmp_path)
    assert told(problems) == [(2, "campaign_name")]
    assert set(campaigns) == {"winter"}


@pytest.mark.parametrize("size", [2_000, 150_000, 10_000_000])
def test_a_cell_that_is_too_long_is_wrong_and_the_rest_is_read(tmp_path: Path, size: int) -> None:
    rows = [row(), row(ad_id="ad-2", campaign_name="x" * size), row(ad_id="ad-3")]
    campaigns, problems = read(text_of(rows), tmp_path)
    assert [line for line, _ in told(problems)] == [3]
    assert shape(campaigns) == {"summer": {"young": ["ad-1", "ad-3"]}}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("wrong", [[9], [9, 200], [9, 10, 299]])
def test_a_quote_that_is_not_closed_costs_its_own_row_only(tmp_path: Path, wrong: list[int], end: str) -> None:
    lines = text_of([row(ad_id=f"ad-{number}") for number in range(300)]).splitlines()
    for number in wrong:
        lines[number + 1] = lines[number + 1].replace(",banner,", ',"banner,')
    campaigns, problems = read(end.join(lines), tmp_path)
    assert told(problems) == [(number + 2, "ad_type") for number in wrong]
    assert "opens a quote that is not closed in this line" in problems[0].message
    assert shape(campaigns) == {"summer": {"young": [f"ad-{each}" for each in range(300) if each not in wrong]}}


def test_a_quote_that_is_closed_too_early_is_told_with_its_column(tmp_path: Path) -> None:
    text = text_of([row(), row(ad_id="ad-2"), row(ad_id="ad-3")]).replace("ad-2,banner", 'ad-2,"banner"s')
    campaigns, problems = read(text, tmp_path)
    assert told(problems) == [(3, "ad_type")]
    assert "goes on after its quotes" in problems[0].message
    assert shape(campaigns) == {"summer": {"young": ["ad-1", "ad-3"]}}


def test_a_long_line_in_quotes_costs_its_own_row_only(tmp_path: Path) -> None:
    rows = [row(), row(ad_id="ad-2", campaign_name="x, " * 50_000), *(row(ad_id=f"more-{each}") for each in range(300))]
    campaigns, problems = read(text_of(rows), tmp_path)
    assert told(problems) == [(3, None)]
    assert len(campaigns["summer"].ad_groups[0].ads) == 301


def test_a_quote_that_is_not_closed_in_the_header_refuses_the_file(tmp_path: Path) -> None:
    assert "opens a quote that is not closed" in refused(text_of([row()]).replace("bid,", '"bid,', 1), tmp_path)


def test_what_is_right_for_an_ad_group_may_be_wrong_for_a_campaign(tmp_path: Path) -> None:
    """The cells of both are the same here, and each row's are checked for what they are."""
    group = dict(zip(GROUP_COLUMNS, ("g", "G", "1", "18-25", "music", "FR"), strict=True))
    campaign = dict(zip(CAMPAIGN_COLUMNS, group.values(), strict=True))
    rows = [row(**group), row(ad_id="ad-2", **campaign), row(ad_id="ad-3", **campaign, **group)]
    campaigns, problems = read(text_of(rows), tmp_path)
    assert shape(campaigns) == {"summer": {"g": ["ad-1"]}}
    assert told(problems) == [(line, column) for line in (3, 4) for column in ("start_date", "end_date")]


def test_rows_of_a_campaign_agree_about_it(tmp_path: Path) -> None:
    rows = [row(), row(ad_id="ad-2", campaign_budget="7", objective="clicks"), row(ad_id="ad-3")]
    campaigns, problems = read(text_of(rows), tmp_path, rows=1)
    assert shape(campaigns) == {"summer": {"young": ["ad-1", "ad-3"]}}
    assert campaigns["summer"].campaign_budget == "1000.50"
    assert told(problems) == [(3, "campaign_budget"), (3, "objective")]
    assert problems[0].message == "is '7' here, and '1000.50' in line 2"


def test_rows_of_an_ad_group_agree_about_it(tmp_path: Path) -> None:
    rows = [row(), row(ad_id="ad-2", bid="7"), row(ad_id="ad-3", ad_group_id="old", bid="7")]
    campaigns, problems = read(text_of(rows), tmp_path)
    assert shape(campaigns) == {"summer": {"young": ["ad-1"], "old": ["ad-3"]}}
    assert told(problems) == [(3, "bid")]


def test_an_ad_that_is_there_twice_in_a_campaign_is_told_with_the_earlier_line(tmp_path: Path) -> None:
    rows = [row(), row(ad_group_id="old"), row(campaign_id="winter")]
    campaigns, problems = read(text_of(rows), tmp_path, rows=1)
    assert shape(campaigns) == {"summer": {"young": ["ad-1"]}, "winter": {"young": ["ad-1"]}}
    assert problems == [Problem(3, "ad_id", "is in line 2 already")]


def test_a_campaign_ends_no_earlier_than_it_begins(tmp_path: Path) -> None:
    _, problems = read(text_of([row(end_date="2026-05-01")]), tmp_path)
    assert told(problems) == [(2, "end_date")]


def test_a_campaign_of_too_many_ad_groups_is_left_out(tmp_path: Path) -> None:
    rows = many(1, groups=MOST_GROUPS + 1, ads=1)
    campaigns, problems = read(text_of(rows), tmp_path)
    assert campaigns == {}
    assert "1,001 ad groups" in problems[0].message


# files that cannot be read


def refused(content: bytes | str, path: Path) -> str:
    with pytest.raises(Invalid) as error:
        read(content, path)
    return str(error.value)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    assert "is empty" in refused(content, tmp_path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_another_encoding_of_unicode_is_named(tmp_path: Path, encoding: str) -> None:
    assert "UTF-16" in refused(text_of([row()]).encode(encoding), tmp_path)


@pytest.mark.parametrize("line", [2, 3_000])
def test_the_line_that_is_not_utf_8_is_named(tmp_path: Path, line: int) -> None:
    lines = text_of([row(ad_id=f"ad-{number}") for number in range(4_000)]).encode().split(b"\n")
    lines[line - 1] = lines[line - 1].replace(b"Summer", "Été".encode("latin-1"))
    assert f"Line {line:,} is not in UTF-8" in refused(b"\n".join(lines), tmp_path)


@pytest.mark.parametrize(("separator", "name"), [(";", "semicolons"), ("\t", "tabs")])
def test_another_separator_is_named(tmp_path: Path, separator: str, name: str) -> None:
    assert f"looks like {name}" in refused(text_of([row()]).replace(",", separator), tmp_path)


def test_columns_that_are_missing_unknown_or_there_twice_are_named(tmp_path: Path) -> None:
    text = text_of([row()]).replace("bid,", "bids,", 1).replace("status", "ad_id", 1)
    words = refused(text, tmp_path)
    assert "missing: bid, status" in words
    assert "unknown: bids" in words
    assert "there more than once: ad_id" in words


def test_a_file_of_something_else_is_refused_in_few_words(tmp_path: Path, seed: int) -> None:
    assert len(refused(b"PK\x03\x04" + random.Random(seed).randbytes(100_000), tmp_path)) < 1_000
    assert len(refused("x" * 1_000_000, tmp_path)) < 1_000
    assert len(refused(",".join("abcdef" * 9_000), tmp_path)) < 1_500
