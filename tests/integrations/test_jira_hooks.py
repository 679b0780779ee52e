"""What Jira sends: whose it is, and of which issue it speaks."""

import json

import pytest
from hypothesis import given, strategies as st

from orderup.integrations.jira_hooks import is_automation, is_issue_key, is_signed, read_hook

# As Atlassian gives them.
SECRET, BODY = "It's a Secret to Everybody", b"Hello World!"
DIGEST = "a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9"


def test_a_body_that_jira_signed_is_taken() -> None:
    assert is_signed(SECRET, BODY, f"sha256={DIGEST}")


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "sha256",
        "sha256=",
        DIGEST,
        f"sha1={DIGEST}",
        f"SHA256={DIGEST}",
        f"sha256={DIGEST[:-1]}",
        f"sha256={DIGEST} ",
        f"sha256={DIGEST.replace('a', 'b')}",
        "sha256=Zoë\udcff",
        f"sha1=x,sha256={DIGEST}",
    ],
)
def test_any_other_header_is_not(header: str | None) -> None:
    assert not is_signed(SECRET, BODY, header)


def test_another_body_or_another_secret_is_not() -> None:
    assert not is_signed(SECRET, BODY + b"\n", f"sha256={DIGEST}")
    assert not is_signed("", BODY, f"sha256={DIGEST}")


def test_a_rule_shows_its_secret() -> None:
    assert is_automation("Zoë's secret", "Zoë's secret")
    assert not is_automation("secret", None)
    assert not is_automation("secret", "")
    assert not is_automation("secret", "secre")
    assert not is_automation("secret", "\udcff")


@pytest.mark.parametrize(
    ("sent", "key"),
    [
        ({"webhookEvent": "jira:issue_updated", "issue": {"id": "10000", "key": "BAKE-24", "fields": {}}}, "BAKE-24"),
        ({"id": 10000, "key": "BAKE-24", "fields": {"summary": "x"}}, "BAKE-24"),
        ({"issueKey": "BAKE_2-24", "event": "missing-ingredients"}, "BAKE_2-24"),
        ({"issue": "BAKE-24"}, None),
        ({"issue": {"key": 24}}, None),
        ({"issueKey": "BAKE-24/../../project/BAKE"}, None),
        ({"issueKey": "bake-24"}, None),
        ({"issueKey": "BAKE-24\n"}, None),
        ({"issueKey": "{{issue.key}}"}, None),
        ({"issueKey": "B" * 300 + "-1"}, None),
        ({}, None),
        ([{"key": "BAKE-24"}], None),
        ("BAKE-24", None),
        (None, None),
    ],
)
def test_of_which_issue_it_speaks(sent: object, key: str | None) -> None:
    assert read_hook(json.dumps(sent).encode()) == key


@pytest.mark.parametrize("body", [b"", b"issue=BAKE-24", b'{"issueKey":', b"\xff", b"[" * 100_000, b'{"a":' * 100_000])
def test_what_cannot_be_read_speaks_of_none(body: bytes) -> None:
    assert read_hook(body) is None


@given(st.binary())
def test_whatever_comes_it_is_read_or_not(body: bytes) -> None:
    key = read_hook(body)
    assert key is None or is_issue_key(key)
