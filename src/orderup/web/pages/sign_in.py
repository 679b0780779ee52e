"""Signing in: paste a token; it is kept in a cookie that scripts cannot read. On a laptop a name will do."""

from fastapi import Request
from starlette.responses import Response

from orderup.errors import Unauthenticated
from orderup.web.auth import OPEN, Doorkeeper
from orderup.web.pages.route import Form, PageRouter, form_of, see_other
from orderup.web.pages.session import LONGEST_NAME, NAME_COOKIE, TOKEN_COOKIE, keep
from orderup.web.pages.site import site_of

router = PageRouter()


class SignIn(Form):
    """next: the page to go to, one of ours; any other is the first page."""

    token: str = ""
    name: str = ""
    next: str = ""


@router.get("/sign-in", dependencies=[OPEN])
async def ask(request: Request) -> Response:
    return site_of(request).page(request, "sign_in.html", next=_next(request.query_params.get("next")), error="")


@router.form("/sign-in", SignIn, dependencies=[OPEN])
async def sign_in(request: Request) -> Response:
    form = await form_of(request, SignIn)
    address = _next(form.next)
    answer = see_other(address)
    if request.app.state.settings.secret_key is None:
        keep(answer, request, NAME_COOKIE, form.name.strip()[:LONGEST_NAME])
        return answer
    token = form.token.strip()
    doorkeeper: Doorkeeper = request.app.state.doorkeeper
    try:
        await doorkeeper.admit_token(token)
    except Unauthenticated as error:
        return site_of(request).page(request, "sign_in.html", code=401, next=address, error=str(error))
    keep(answer, request, TOKEN_COOKIE, token)
    return answer


@router.form("/sign-out", dependencies=[OPEN])
async def sign_out(request: Request) -> Response:
    await form_of(request, Form)
    answer = see_other("/sign-in")
    for name in (TOKEN_COOKIE, NAME_COOKIE):
        answer.delete_cookie(name, path="/")
    return answer


def _next(address: str | None) -> str:
    """Only to a page of ours."""
    is_ours = address is not None and address.startswith("/") and not address.startswith(("//", "/\\"))
    return address if is_ours and address is not None else "/"
