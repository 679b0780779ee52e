"""How uvicorn serves an app: `serve` and the tests run the same."""

import asyncio
import logging
from typing import Any

from starlette.types import ASGIApp, Scope
from uvicorn import Config
from uvicorn._types import ASGI3Application, ASGISendEvent
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from orderup.errors import OrderupError
from orderup.settings import Settings
from orderup.web.problems import HeadTooLarge, MalformedRequest, error_response
from orderup.web.wire import WIRE_KEY, Tell

# Frames that clients send are small: tokens, results, heartbeats.
LARGEST_FRAME = 64 << 10
KEEP_ALIVE_SECONDS = 5
READ_IN_VAIN = 16 << 20
# What a client may send ahead while he waits and is watched, for he is read all the while.
MOST_AHEAD, MOST_BYTES_AHEAD = 16, 64 << 10
PING_SECONDS = 20.0
NO_REQUEST = "This cannot be read as an HTTP request: see its first line, its headers and where its body ends."


class LimitedProtocol(HttpToolsProtocol):
    """Uvicorn's own, with an end to what it collects, to what it reads for nothing, and to how long it waits for it.

    Its parser keeps what it has not reported yet: headers, and those that may follow a body in chunks. Without a limit
    that is as much as a client cares to send. And a body that was refused is read on for a while, for a client that is
    cut off while it sends does not see the answer. Who opens a connection and sends nothing, or a byte now and then, is
    cut off when his time for the head or the body is over; who takes nothing of what he is answered, after as long as a
    body may take. Between two requests uvicorn waits for `KEEP_ALIVE_SECONDS`, but only until the first byte of what
    comes next, be it an empty line: from there on it is a head. A WebSocket is under none of this any more. Routes can
    hang up on a caller, see `wire.py`.

    Uvicorn reads no further than one request ahead, and who is not read is not seen to leave. So while a route wants to
    be told that its caller is gone, he is read on, and cut off when he sends too much ahead.

    A connection has one alarm at most, which looks when it rings whether anything is due, and is set anew if that is
    later: most requests come in one piece and are answered long before, and a timer for each would cost as much as the
    parser.
    """

    max_header_bytes: int
    head_seconds: float
    body_seconds: float
    has_progress = is_in_head = is_upgraded = False
    unreported = 0
    in_vain = 0
    # by the loop's clock: when what is awaited must have come; and, while nothing is asked, what it was before
    due: float | None = None
    due_before: float | None = None
    is_resting = False
    alarm: asyncio.TimerHandle | None = None
    rings_at = 0.0
    taken_by: asyncio.TimerHandle | None = None
    running: RequestResponseCycle | None = None
    tell_gone: Tell | None = None
    bytes_ahead = 0
    # uvicorn's own headers, date and all, which it replaces once a second; and the same as they are sent
    usual_headers: list[tuple[bytes, bytes]] | None = None
    usual_lines = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_by(self.head_seconds)
        self._set_alarm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        self._leave_untaken()
        if self.running is not None and not self.running.response_complete:
            # uvicorn tells the last request that was sent, which may still be waiting behind this one
            self.running.disconnected = True
            self.running.message_event.set()
        super().connection_lost(exc)
        tell, self.tell_gone = self.tell_gone, None
        if tell is not None:
            tell()

    def handle_websocket_upgrade(self) -> None:
        self.is_upgraded = True
        self._expect_nothing()
        super().handle_websocket_upgrade()

    # what must come in time

    def _expect_by(self, seconds: float) -> None:
        """The alarm is set for it once all that came was looked at."""
        self.due = self.loop.time() + seconds

    def _expect_nothing(self) -> None:
        self.due = self.due_before = None
        self.is_resting = False
        if self.alarm is not None:
            self.alarm.cancel()
            self.alarm = None

    def _rest(self) -> None:
        """Nothing is asked: until the next byte comes."""
        self.due_before, self.is_resting = self.due, True
        until = self.loop.time() + self.timeout_keep_alive
        self.due = until if self.due is None else min(self.due, until)
        self._set_alarm()

    def _set_alarm(self) -> None:
        if self.due is None:
            return
        if self.alarm is not None:
            if self.rings_at <= self.due:
                return
            self.alarm.cancel()
        self.rings_at = self.due
        self.alarm = self.loop.call_at(self.due, self._ring)

    def _ring(self) -> None:
        self.alarm = None
        if self.due is not None and self.due <= self.loop.time():
            self._cut_off()
        else:
            self._set_alarm()

    def _cut_off(self) -> None:
        self.transport.close()
        self._see_the_rest_taken()

    def _is_forgotten(self) -> bool:
        """Nothing runs, and nothing would end the connection: uvicorn stops waiting for a request at the first byte."""
        is_at_work = self.running is not None and not self.running.response_complete
        has_an_end = self.due is not None
        return not (is_at_work or has_an_end or self.pipeline or self.is_upgraded or self.transport.is_closing())

    # what must be taken in time

    def pause_writing(self) -> None:
        super().pause_writing()
        self._must_take()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._leave_untaken()

    def on_response_complete(self) -> None:
        """Uvicorn's own, but for its timer of the pause between two requests."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            self._see_the_rest_taken()
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        else:
            self._rest()

    def _see_the_rest_taken(self) -> None:
        """A connection that was closed stays open until the last of what was written is taken."""
        if self.transport.get_write_buffer_size():
            self._must_take()

    def _must_take(self) -> None:
        if self.taken_by is None:
            self.taken_by = self.loop.call_later(self.body_seconds, self.transport.abort)

    def _leave_untaken(self) -> None:
        if self.taken_by is not None:
            self.taken_by.cancel()
            self.taken_by = None

    # requests

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self.running = cycle
        super()._start_asgi_task(cycle, app)

    def hang_up(self) -> None:
        for cycle in (self.running, self.cycle, *(waiting for waiting, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
        self.transport.close()

    def is_gone(self) -> bool:
        return self.transport.is_closing()

    def give_time(self) -> None:
        if self.due is not None and not self.is_in_head:
            self._expect_by(self.body_seconds)

    def when_gone(self, tell: Tell | None) -> None:
        is_gone = self.parser is None  # uvicorn drops it when the connection is lost
        self.tell_gone = None if is_gone else tell
        if tell is None:
            return
        if is_gone:
            tell()
        else:
            self.bytes_ahead = 0
            self._read_on()

    def _read_on(self) -> None:
        """A body may have stopped it, or a request that was sent ahead."""
        if len(self.pipeline) > MOST_AHEAD or self.bytes_ahead > MOST_BYTES_AHEAD:
            self._cut_off()
        else:
            self.flow.resume_reading()

    def answer(self, scope: Scope, status: int, lines: bytes, body: bytes) -> bool:
        cycle = self.running
        if cycle is None or cycle.scope is not scope or cycle.response_started or cycle.disconnected:
            return False
        if self.flow.write_paused or self.transport.is_closing():
            return False
        cycle.response_started = cycle.response_complete = True
        if self.usual_headers is not self.server_state.default_headers:
            self.usual_headers = self.server_state.default_headers
            self.usual_lines = b"".join(b"%b: %b\r\n" % header for header in self.usual_headers)
        end = b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n"
        self.transport.write(b"".join((STATUS_LINE[status], self.usual_lines, lines, end, body)))
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()
        return True

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  uvicorn's words tell nothing of what to do
        self._refuse(MalformedRequest(NO_REQUEST))
        self.transport.close()

    def _refuse(self, error: OrderupError) -> None:
        """What no app will see. Not in the middle of an answer, whose reader would take it for a part of that."""
        if self.running is not None and self.running.response_started and not self.running.response_complete:
            return
        answer = error_response(error, headers={"Connection": "close"})
        headers = [*self.server_state.default_headers, *answer.raw_headers]
        lines = [b"%b: %b\r\n" % header for header in headers]
        self.transport.write(b"".join((STATUS_LINE[answer.status_code], *lines, b"\r\n", answer.body)))

    def data_received(self, data: bytes) -> None:
        if self.is_resting:
            self.is_resting, self.due = False, self.due_before
        self.has_progress = False
        super().data_received(data)
        self.unreported = 0 if self.has_progress else self.unreported + len(data)
        if self.unreported > self.max_header_bytes and not self.transport.is_closing():
            if self.is_in_head:
                self._refuse(HeadTooLarge(f"The head of this request has more than {self.max_header_bytes} bytes."))
            self._cut_off()
        if self.tell_gone is not None and not self.transport.is_closing():
            self.bytes_ahead += len(data)
            self._read_on()
        if self._is_forgotten():
            self._expect_by(self.head_seconds)
        self._set_alarm()

    def on_message_begin(self) -> None:
        self.has_progress = self.is_in_head = True
        self.in_vain = 0
        super().on_message_begin()
        self.scope[WIRE_KEY] = self  # type: ignore[literal-required]
        if self.due is None:
            self._expect_by(self.head_seconds)

    def on_headers_complete(self) -> None:
        self.has_progress, self.is_in_head = True, False
        self._expect_by(self.body_seconds)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self.has_progress = True
        super().on_body(body)
        if self.cycle.response_complete:
            self.in_vain += len(body)
            if self.in_vain > READ_IN_VAIN:
                self._cut_off()

    def on_message_complete(self) -> None:
        self.has_progress = True
        self.due = None
        super().on_message_complete()


def protocol_for(settings: Settings) -> type[LimitedProtocol]:
    names = ("max_header_bytes", "head_seconds", "body_seconds")
    return type("LimitedProtocol", (LimitedProtocol,), {name: getattr(settings, name) for name in names})


class RefusingProtocol(WebSocketsSansIOProtocol):
    """Uvicorn's own, to which a handshake that was refused with an answer is one that was answered.

    It would log each of them as an error of ours, so that anybody could fill the log with errors.
    """

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True


def _is_no_cancelling(record: logging.LogRecord) -> bool:
    """Requests that outlast the end of the server are cancelled: uvicorn counts them on a line of its own, and would
    log each with its traceback, as a crash of ours."""
    return record.exc_info is None or not isinstance(record.exc_info[1], asyncio.CancelledError)


def server_config(app: ASGIApp, settings: Settings, **options: Any) -> Config:
    """For `uvicorn.Server`. options: what else uvicorn takes, such as host and port; listening sockets go to `serve`.

    Proxies are believed by the app, for itself, and requests are logged by it, without their queries.
    """
    logging.getLogger("uvicorn.error").addFilter(_is_no_cancelling)
    return Config(
        app,
        interface="asgi3",
        loop="uvloop",
        http=protocol_for(settings),
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
