"""From a path to its route in one look.

FastAPI tries the routes of its routers one after the other, and those of included routers three times over, which with
five shops would be most of a request's cost. Whatever is not found here, it is asked: for what is missing, for wrong
methods, sockets and mounted files.
"""

from starlette._utils import get_route_path  # what the router itself matches
from starlette.types import ASGIApp, Receive, Scope, Send

from orderup.web.routes import ROUTE_KEY, WEBSOCKET, RouteEntry, RouteTable


class Dispatcher:
    """Paths without parameters go before those with, and those with in the order in which they were declared.

    A path that begins with a parameter is left to the framework.
    """

    def __init__(self, table: RouteTable, *, otherwise: ASGIApp) -> None:
        self.otherwise = otherwise
        self.fixed: dict[tuple[str, str], RouteEntry] = {}
        self.with_parameters: dict[tuple[str, str], list[RouteEntry]] = {}
        for entry in table.entries:
            for method in entry.methods - {WEBSOCKET} if entry.app else ():
                if entry.convertors:
                    self.with_parameters.setdefault((method, _first_segment(entry.path)), []).append(entry)
                else:
                    self.fixed[method, entry.path] = entry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._select(scope) if scope["type"] == "http" else None
        await (app or self.otherwise)(scope, receive, send)

    def _select(self, scope: Scope) -> ASGIApp | None:
        path, method = get_route_path(scope), scope["method"]
        entry = self.fixed.get((method, path))
        parameters = {}
        if entry is None:
            for candidate in self.with_parameters.get((method, _first_segment(path)), ()):
                match = candidate.pattern.match(path)
                if match:
                    entry = candidate
                    values = match.groupdict()
                    parameters = {name: entry.convertors[name].convert(text) for name, text in values.items()}
                    break
        if entry is None:
            return None
        scope.update(path_params=parameters, endpoint=entry.endpoint, route=entry.route)
        scope[ROUTE_KEY] = entry.path
        return entry.app


def _first_segment(path: str) -> str:
    return path[1:].partition("/")[0]
