import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from orderup.web.order_keys import hash_order_key, may_see_order, new_order_key, opens, order_key
from orderup.web.tokens import LOCAL_CALLER, NOBODY, Caller, Role
from tests.web import house as house_of
from tests.web.sample import CLOSED, KEY, SECRET, bearer, client_of, sample_app, token_of


def test_a_key_can_be_worked_out_again_from_its_salt() -> None:
    key = new_order_key(SECRET)
    assert order_key(SECRET, key.salt) == key.text
    assert hash_order_key(key.text) == key.hash


def test_a_key_holds_128_bits_that_fit_into_an_address() -> None:
    assert re.fullmatch(r"[\w-]{22}", new_order_key(SECRET).text, re.ASCII)
    assert len({new_order_key(SECRET).text for _ in range(1000)}) == 1000


def test_what_is_stored_opens_nothing() -> None:
    key = new_order_key(SECRET)
    other_server = SecretStr("another-key-of-thirty-two-characters")
    assert order_key(other_server, key.salt) != key.text
    assert key.text.encode() not in key.salt + key.hash


@pytest.mark.parametrize("text", [None, "", "x", KEY.text[:-1], KEY.text + "=", KEY.text.swapcase(), "\udc80"])
def test_another_text_does_not_open_the_order(text: str | None) -> None:
    assert not opens(text, KEY.hash)


def test_a_revoked_key_opens_nothing() -> None:
    assert opens(KEY.text, KEY.hash)
    assert not opens(KEY.text, None)


@pytest.mark.parametrize(
    ("caller", "may"),
    [
        (NOBODY, False),
        (LOCAL_CALLER, True),
        (Caller(frozenset({Role.CUSTOMER}), "ann"), True),
        (Caller(frozenset({Role.CUSTOMER}), "bob"), False),
        (Caller(frozenset({Role.CUSTOMER}), None), False),
        (Caller(frozenset({Role.WORKER}), "ann"), False),
        (Caller(frozenset({Role.STAFF}), "eve"), True),
        (Caller(frozenset({Role.STAFF}), "eve", shop="pizza"), True),
        (Caller(frozenset({Role.STAFF}), "eve", shop="coffee"), False),
        (Caller(frozenset({Role.CUSTOMER}), "ann", shop="coffee"), False),
    ],
)
def test_an_order_is_seen_by_its_owner_and_by_the_shops_staff(caller: Caller, *, may: bool) -> None:
    assert may_see_order(caller, shop="pizza", owner="ann", key=None, key_hash=KEY.hash) == may
    assert may_see_order(caller, shop="pizza", owner="ann", key=KEY.text, key_hash=KEY.hash)


def test_an_order_placed_without_a_token_belongs_to_no_customer() -> None:
    nameless = Caller(frozenset({Role.CUSTOMER}), None)
    assert not may_see_order(nameless, shop="pizza", owner=None, key=None, key_hash=KEY.hash)


async def test_another_customers_order_is_not_found() -> None:
    async with client_of(sample_app(CLOSED)) as client:
        for headers, path, status in [
            ({}, f"/orders/x1?key={KEY.text}", 200),
            ({}, "/orders/x1?key=guess", 404),
            ({}, "/orders/x1", 401),
            ({}, "/orders/x1?key=", 401),
            (bearer(token_of(Role.CUSTOMER, "ann")), "/orders/x1", 200),
            (bearer(token_of(Role.CUSTOMER, "bob")), "/orders/x1", 404),
        ]:
            answer = await client.get(path, headers=headers)
            assert answer.status_code == status, path


async def test_what_no_customer_has_placed_has_no_key_to_revoke(tmp_path: Path) -> None:
    async with (
        house_of.open_test_house(house_of.settings_for(tmp_path)) as house,
        house_of.client_of(house.back) as client,
    ):
        url, headers = (
            f"/api/operations/{await house_of.place(house)}/revoke-key",
            bearer(house_of.token_of(Role.STAFF)),
        )
        answer = await client.post(url, headers={**headers, "Idempotency-Key": "mine"})
        assert answer.status_code == 409
        assert "has no key" in answer.json()["detail"]
        # it was refused: the key of the request is free
        assert (await client.post(url, headers={**headers, "Idempotency-Key": "mine"})).status_code == 409
