"""Asking a broker who it is, in a few bytes of its own protocol and without a library for it."""

import socket
import ssl
from urllib.parse import unquote, urlsplit

AMQP_HEADER = b"AMQP\x00\x00\x09\x01"
# A frame that holds a method begins with 1; the first one a broker sends is Connection.Start: class 10, method 10.
AMQP_START = b"\x00\x0a\x00\x0a"
PORTS = {"redis": 6379, "rediss": 6379, "amqp": 5672, "amqps": 5671}


def probe_broker(url: str, *, seconds: float) -> str:
    """What answers. Raises OSError if nothing does, ValueError if it is something else or refuses the password."""
    parts = urlsplit(url)
    port = parts.port or PORTS[parts.scheme]
    connection = socket.create_connection((parts.hostname or "localhost", port), timeout=seconds)
    if parts.scheme in {"rediss", "amqps"}:
        connection = ssl.create_default_context().wrap_socket(connection, server_hostname=parts.hostname)
    with connection:
        if parts.scheme.startswith("amqp"):
            return _ask_amqp(connection)
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        return _ask_redis(connection, user=user, password=password)


def _ask_amqp(connection: socket.socket) -> str:
    connection.sendall(AMQP_HEADER)
    answer = connection.recv(4096)
    if answer[:1] != b"\x01" or answer[7:11] != AMQP_START:
        raise ValueError("it does not speak AMQP 0-9-1")
    return "RabbitMQ, or what speaks like it"


def _ask_redis(connection: socket.socket, *, user: str, password: str) -> str:
    if password:
        answer = _redis(connection, "AUTH", *([user] if user else []), password)
        if answer != "+OK":
            raise ValueError(f"it refuses the password: {answer[1:100]}")
    answer = _redis(connection, "PING")
    if answer != "+PONG":
        raise ValueError(f"it answers PING with {answer[:100]!r}")
    return "Redis, or what speaks like it"


def _redis(connection: socket.socket, *words: str) -> str:
    """The first line of the answer."""
    parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
    connection.sendall(f"*{len(words)}\r\n{''.join(parts)}".encode())
    return connection.recv(4096).partition(b"\r\n")[0].decode(errors="replace")
