"""What every answer tells a browser: take it as it says it is, keep it to yourself, load nothing from elsewhere."""

from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Keys stand in addresses (`?key=`): no page is told where a visitor came from, no cache keeps an answer.
BASE_HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
DATA_POLICY = "default-src 'none'; frame-ancestors 'none'"
# Written out in full: the answer to a crash is made outside of all middleware.
PROBLEM_HEADERS: Mapping[str, str] = {**BASE_HEADERS, "Content-Security-Policy": DATA_POLICY}
ONE_YEAR = 365 * 24 * 3600


class SecurityHeaders:
    """Adds them where a route has not said otherwise. `https`: browsers are told to come back by https only."""

    def __init__(self, app: ASGIApp, *, https: bool) -> None:
        self.app = app
        headers = {**PROBLEM_HEADERS, **({"Strict-Transport-Security": f"max-age={ONE_YEAR}"} if https else {})}
        self.headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name for name, _ in message["headers"]}
                added = [header for header in self.headers if header[0] not in present]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self.app(scope, receive, send_with_headers)
