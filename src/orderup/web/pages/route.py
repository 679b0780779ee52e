"""Routes that answer with pages: what is refused is told on a page, and who has not signed in is asked to."""

from collections.abc import Callable, Coroutine, Sequence
from enum import Enum
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from orderup.errors import OrderupError, Unauthenticated
from orderup.web.pages.session import cookie_token
from orderup.web.pages.site import site_of
from orderup.web.problems import Problem, headers_of, problem_of, problem_of_invalid
from orderup.web.routes import GuardedRoute, Router


class PageRoute(GuardedRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answered(request: Request) -> Response:
            # before anything is looked at: what happens from here on is told to the page again
            request.state.seq = request.app.state.engine.feed.position
            try:
                return await handle(request)
            except Unauthenticated as error:
                if request.app.state.kind == "back":
                    return _ask_to_sign_in(request, error)
                return _refused(request, problem_of(error))
            except OrderupError as error:
                return _refused(request, problem_of(error), headers=headers_of(error))
            except RequestValidationError as error:
                return _refused(request, problem_of_invalid(error.errors()))
            except HTTPException as error:
                detail = str(error.detail)
                return _refused(request, Problem(status=error.status_code, title=detail, detail=detail))

        return answered


def _ask_to_sign_in(request: Request, error: Unauthenticated) -> Response:
    """In place of the page, which is shown once it is known who asks."""
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    said = str(error) if cookie_token(request) else ""
    answer = site_of(request).page(
        request, "sign_in.html", code=401, next=here if request.method == "GET" else "/", error=said
    )
    answer.headers.update(headers_of(error))
    return answer


def _refused(request: Request, problem: Problem, *, headers: dict[str, str] | None = None) -> Response:
    back = request.headers.get("referer")
    answer = site_of(request).page(request, "error.html", code=problem.status, problem=problem, back=back)
    answer.headers.update(headers or {})
    return answer


class PageRouter(Router):
    """As `Router`, for pages."""

    def __init__(self, *, tags: Sequence[str | Enum] = ("pages",)) -> None:
        super().__init__(tags=list(tags))
        self.route_class = PageRoute
        self.default_response_class = HTMLResponse


def see_other(address: str) -> Response:
    """After a form: the page to look at now."""
    return RedirectResponse(address, status_code=303)
