"""Routes that answer with pages: what is refused is told on a page, and who has not signed in is asked to."""

from collections.abc import Callable, Coroutine, Sequence
from enum import Enum
from typing import Any, TypeVar

from fastapi import params
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from orderup.errors import KeyMisused, OrderupError, Unauthenticated
from orderup.web.openapi import PROBLEM_CONTENT
from orderup.web.pages.session import cookie_token, read_form
from orderup.web.pages.site import site_of
from orderup.web.problems import Problem, headers_of, note_failure, problem_of, problem_of_invalid
from orderup.web.routes import GuardedRoute, Router

# Whoever fills in a form knows of no key.
SENT_ALREADY = Problem(
    status=422,
    title="Sent already",
    detail="This form was sent already, with something else in it. Open it anew to send another one.",
)


class PageRoute(GuardedRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answered(request: Request) -> Response:
            _note_position(request)
            try:
                return await handle(request)
            except Unauthenticated as error:
                if request.app.state.kind == "back":
                    return _ask_to_sign_in(request, error)
                return _refused(request, problem_of(error))
            except OrderupError as error:
                note_failure(error, request.scope)
                problem = SENT_ALREADY if isinstance(error, KeyMisused) else problem_of(error)
                return _refused(request, problem, headers=headers_of(error))
            except RequestValidationError as error:
                return _refused(request, problem_of_invalid(error.errors()))
            except HTTPException as error:
                detail = str(error.detail)
                return _refused(request, Problem(status=error.status_code, title=detail, detail=detail))

        return answered


def _note_position(request: Request) -> None:
    """Before anything is looked at: what happens from here on is told to the page again."""
    request.state.seq = request.app.state.engine.feed.position


def show_nothing_there(request: Request, problem: Problem) -> Response | None:
    """Where an address leads nowhere: a page for a browser; None for a program, which does not ask for one."""
    if "text/html" not in request.headers.get("accept", ""):
        return None
    _note_position(request)
    return _refused(request, problem)


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


class Form(BaseModel):
    """The fields of a form. All are text: a browser knows nothing else."""

    model_config = ConfigDict(extra="forbid", frozen=True)


FormT = TypeVar("FormT", bound=Form)
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
FORM_TYPE = "application/x-www-form-urlencoded"
# What goes wrong before a page is looked for, such as a body that is too large, is told as everywhere.
REFUSED: dict[int | str, dict[str, Any]] = {
    "default": {"description": "A problem, on a page", "content": {"text/html": {}, **PROBLEM_CONTENT}}
}


class PageRouter(Router):
    """As `Router`, for pages: `@pages.get(…)` shows one, `@pages.form(…)` takes what was filled in on one."""

    def __init__(self, *, tags: Sequence[str | Enum] = ("pages",)) -> None:
        super().__init__(tags=list(tags))
        self.route_class = PageRoute
        self.default_response_class = HTMLResponse
        self.responses = REFUSED

    def form(
        self,
        path: str,
        fields: type[Form] = Form,
        *,
        shows_page: bool = False,
        dependencies: Sequence[params.Depends] | None = None,
        summary: str | None = None,
    ) -> Callable[[Endpoint], Endpoint]:
        """A POST route for a form of these fields; `form_of` reads them. shows_page: it answers with one; else it sends
        the browser on to another, see `see_other`."""
        schema = fields.model_json_schema()
        schema["properties"] = {**schema.get("properties", {}), "csrf": {"type": "string"}}
        content = {FORM_TYPE: {"schema": schema}}
        add: Callable[[Endpoint], Endpoint] = self.post(
            path,
            status_code=200 if shows_page else 303,
            response_class=HTMLResponse if shows_page else RedirectResponse,
            dependencies=dependencies,
            summary=summary,
            openapi_extra={"requestBody": {"required": "required" in schema, "content": content}},
        )
        return add


async def form_of(request: Request, fields: type[FormT]) -> FormT:
    """What was filled in. Raises RequestValidationError, which names the field; Forbidden if the form is not ours."""
    try:
        return fields.model_validate(await read_form(request))
    except ValidationError as error:
        wrong = [{**each, "loc": ("form", *each["loc"])} for each in error.errors(include_url=False)]
        raise RequestValidationError(wrong) from None


def see_other(address: str) -> Response:
    """After a form: the page to look at now."""
    return RedirectResponse(address, status_code=303)
