"""The key in a customer's links: 128 bits that open one order and nothing else.

It is worked out from SECRET_KEY and a salt that is stored with the order, so that a repeated request can be given the
same links again, while the database alone, holding salt and hash, opens nothing.

Staff revokes a key by putting another one in its place: salt and hash are asked of the database by every request, and
by whoever follows the order before he is told more, so that the old links end at once in every process. That is no
change of the operation: what is worked out from it hangs on no key, and no change writes those columns.
"""

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass

from pydantic import SecretStr
from sqlalchemy import select, update

from orderup.db.database import Key, ReadConnection, WriteConnection
from orderup.db.tables import operations
from orderup.errors import Conflict
from orderup.model.ids import show_id
from orderup.web.idempotency import take_key
from orderup.web.tokens import Caller, Role

PURPOSE = b"orderup order key"
KEY_BYTES = 16
SALT_BYTES = 16


@dataclass(frozen=True, slots=True)
class OrderKey:
    """text: for the customer, 22 letters, digits, - and _. salt (16 bytes), hash (32 bytes): to be stored."""

    text: str
    salt: bytes
    hash: bytes


def new_order_key(secret: SecretStr) -> OrderKey:
    salt = secrets.token_bytes(SALT_BYTES)
    text = order_key(secret, salt)
    return OrderKey(text, salt, hash_order_key(text))


def order_key(secret: SecretStr, salt: bytes) -> str:
    """The same key again, for a replay."""
    mac = hmac.digest(secret.get_secret_value().encode(), PURPOSE + salt, "sha256")
    return urlsafe_b64encode(mac[:KEY_BYTES]).rstrip(b"=").decode()


def hash_order_key(text: str) -> bytes:
    # A plain hash will do: nobody tries 2 ** 128 keys.
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def opens(text: str | None, stored_hash: bytes | None) -> bool:
    """Whether this key opens the order with this hash, in constant time. stored_hash: None once it was revoked."""
    return bool(text) and stored_hash is not None and hmac.compare_digest(hash_order_key(text or ""), stored_hash)


def may_see_order(caller: Caller, *, shop: str, owner: str | None, key: str | None, key_hash: bytes | None) -> bool:
    """Staff of the shop, the customer who owns it, or whoever has its key. A caller who may not is told 404.

    owner: the subject of the customer's token that placed it, or None.
    """
    if opens(key, key_hash):
        return True
    if not caller.may_enter(shop):
        return False
    if caller.has(Role.STAFF):
        return True
    return caller.has(Role.CUSTOMER) and owner is not None and caller.subject == owner


def has_this_hash(connection: ReadConnection, operation_id: int, key_hash: str) -> bool:
    """Whether the order still has the key with this hash, in hexadecimal digits."""
    row = connection.execute(select(operations.c.key_hash).where(operations.c.id == operation_id)).one_or_none()
    return row is not None and row.key_hash == key_hash


def replace_order_key(connection: WriteConnection, operation_id: int, new: OrderKey, *, key: Key | None) -> None:
    """The key that the order had opens nothing from here on. `key`: of the request, so that it is replaced once.

    Raises Replayed, KeyMisused; Conflict if the order has no key.
    """
    take_key(connection, key, operation_id=operation_id)
    here = (operations.c.id == operation_id) & operations.c.key_hash.is_not(None)
    values = {"key_hash": new.hash.hex(), "key_salt": new.salt.hex()}
    if not connection.execute(update(operations).where(here).values(values)).rowcount:
        raise Conflict(
            f"Order {show_id(operation_id)} has no key: no customer placed it, it was placed without SECRET_KEY, or it "
            "was forgotten."
        )
