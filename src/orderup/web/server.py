"""How uvicorn serves an app: `serve` and the tests run the same."""

from typing import Any

from starlette.types import ASGIApp
from uvicorn import Config
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from orderup.settings import Settings

# Frames that clients send are small: tokens, results, heartbeats.
LARGEST_FRAME = 64 << 10
KEEP_ALIVE_SECONDS = 5
READ_IN_VAIN = 16 << 20
PING_SECONDS = 20.0
HEAD_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


def protocol_with(max_header_bytes: int) -> type[HttpToolsProtocol]:
    """Uvicorn's own, with an end to what it collects, and to what it reads for nothing.

    Its parser keeps what it has not reported yet: headers, and those that may follow a body in chunks. Without a limit
    that is as much as a client cares to send. And a body that was refused is read on for a while, for a client that is
    cut off while it sends does not see the answer.
    """

    class LimitedProtocol(HttpToolsProtocol):
        has_progress = is_in_head = False
        unreported = 0
        in_vain = 0

        def data_received(self, data: bytes) -> None:
            self.has_progress = False
            super().data_received(data)
            self.unreported = 0 if self.has_progress else self.unreported + len(data)
            if self.unreported > max_header_bytes and not self.transport.is_closing():
                if self.is_in_head:
                    self.transport.write(HEAD_TOO_LARGE)
                self.transport.close()

        def on_message_begin(self) -> None:
            self.has_progress = self.is_in_head = True
            self.in_vain = 0
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self.has_progress, self.is_in_head = True, False
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self.has_progress = True
            super().on_body(body)
            if self.cycle.response_complete:
                self.in_vain += len(body)
                if self.in_vain > READ_IN_VAIN:
                    self.transport.close()

        def on_message_complete(self) -> None:
            self.has_progress = True
            super().on_message_complete()

    return LimitedProtocol


class RefusingProtocol(WebSocketsSansIOProtocol):
    """Uvicorn's own, to which a handshake that was refused with an answer is one that was answered.

    It would log each of them as an error of ours, so that anybody could fill the log with errors.
    """

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True


def server_config(app: ASGIApp, settings: Settings, **options: Any) -> Config:
    """For `uvicorn.Server`. options: what else uvicorn takes, such as host and port; listening sockets go to `serve`.

    Proxies are believed by the app, for itself, and requests are logged by it, without their queries.
    """
    return Config(
        app,
        loop="uvloop",
        http=protocol_with(settings.max_header_bytes),
        ws=RefusingProtocol,
        ws_max_size=LARGEST_FRAME,
        # Two compression windows a socket would outweigh all else that a waiting customer costs.
        ws_per_message_deflate=False,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PING_SECONDS,
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        **options,
    )
