"""What a route asks of its caller: declared at the route, checked before the body is read, shown in the OpenAPI.

Every route declares one `Access`, as a parameter (`caller: AsStaff`) or among its dependencies (`OPEN`); an app with a
route that declares none is not built. The declaration is the check, so that what is documented is what happens.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, params
from fastapi.dependencies.models import Dependant
from starlette.requests import HTTPConnection

from orderup.errors import Forbidden, Misconfigured, Unauthenticated
from orderup.settings import Settings
from orderup.web.pages.session import check_origin, cookie_token, local_name
from orderup.web.tokens import ANY_WORKER, INCLUDED, LOCAL_CALLER, NOBODY, Caller, Role, read_token, same_secret

IsRevoked = Callable[[str], Awaitable[bool]]
CALLER_KEY = "orderup.caller"
DOOR_KEY = "orderup.doorkeeper"

TOKEN_SCHEME = "token"  # noqa: S105  the name of a scheme in the OpenAPI
ORDER_KEY_SCHEME = "orderKey"
METRICS_SCHEME = "metricsToken"


class Doorkeeper:
    """Tells who calls. `is_revoked` is asked about the jti of every token that is otherwise good."""

    def __init__(self, settings: Settings, *, is_revoked: IsRevoked, now: Callable[[], datetime]) -> None:
        self.settings, self.is_revoked, self.now = settings, is_revoked, now

    async def identify(self, connection: HTTPConnection) -> Caller:
        """NOBODY without a token. Raises Unauthenticated for a token that does not count (any more)."""
        secret = self.settings.secret_key
        if secret is None:
            name = local_name(connection)
            return LOCAL_CALLER if name is None else replace(LOCAL_CALLER, subject=name)
        token = bearer_token(connection)
        if token is None:
            token = cookie_token(connection)
            if token is None:
                return NOBODY
            check_origin(connection)
        return await self.admit_token(token)

    async def admit_token(self, token: str) -> Caller:
        """Whom it speaks for. Raises Unauthenticated."""
        secret, worker_token = self.settings.secret_key, self.settings.worker_token
        assert secret is not None
        if worker_token is not None and same_secret(token, worker_token):
            return ANY_WORKER
        caller = read_token(token, secret=secret, now=self.now())
        if caller.jti is not None and await self.is_revoked(caller.jti):
            raise Unauthenticated("This token was revoked. Ask for a new one.")
        return caller


def bearer_token(connection: HTTPConnection) -> str | None:
    """From `Authorization: Bearer …`. Raises Unauthenticated for anything else in that header."""
    values = connection.headers.getlist("authorization")
    if not values:
        return None
    scheme, _, token = values[0].strip().partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("Send one header of the form Authorization: Bearer TOKEN.")
    return token.strip()


class Access:
    """Who may use a route: `roles`, or everybody if there are none."""

    def __init__(self, *roles: Role) -> None:
        self.roles = frozenset(role for role in Role if not INCLUDED[role].isdisjoint(roles))

    @property
    def schemes(self) -> tuple[str, ...]:
        """The ways of showing it, any of which will do; none: it need not be shown."""
        return (TOKEN_SCHEME,) if self.roles else ()

    @property
    def documented_roles(self) -> list[str]:
        return sorted(self.roles)

    async def __call__(self, connection: HTTPConnection) -> Caller:
        scope = connection.scope
        if CALLER_KEY not in scope:
            scope[CALLER_KEY] = await self.admit(connection)
        caller: Caller = scope[CALLER_KEY]
        return caller

    async def admit(self, connection: HTTPConnection) -> Caller:
        """Raises Unauthenticated or Forbidden."""
        doorkeeper: Doorkeeper = connection.app.state.doorkeeper
        caller = await doorkeeper.identify(connection)
        if self.roles:
            self._check_role(caller)
        shop = connection.app.state.shop_at(connection.scope)
        if shop is not None and not caller.may_enter(shop):
            raise Forbidden(f"This token is for {caller.shop} only.")
        return caller

    def _check_role(self, caller: Caller) -> None:
        if caller is NOBODY:
            raise Unauthenticated(f"This needs a token. Send Authorization: Bearer TOKEN, of {self._wanted()}.")
        if not caller.has(*self.roles):
            raise Forbidden(f"This needs a token of {self._wanted()}; yours is of {_words(caller.roles)}.")

    def _wanted(self) -> str:
        return _words(self.roles)


class OpenAccess(Access):
    """Everybody, asked nothing: even a token that has expired does not matter."""

    async def admit(self, connection: HTTPConnection) -> Caller:  # noqa: ARG002  it asks nothing
        return NOBODY

    @property
    def documented_roles(self) -> list[str]:
        return ["anyone"]


class AnyoneAccess(Access):
    """Everybody; but who comes with a token is known by it, and must come with a good one."""

    @property
    def documented_roles(self) -> list[str]:
        return ["anyone"]


class OrderAccess(Access):
    """Whoever has the order's key or may see it otherwise: for the route to ask, with `may_see_order`.

    Who shows nothing at all is asked for something, whether there is such an order or not; who shows the wrong thing is
    told that there is none.
    """

    def __init__(self) -> None:
        super().__init__()

    @property
    def schemes(self) -> tuple[str, ...]:
        return (TOKEN_SCHEME, ORDER_KEY_SCHEME)

    @property
    def documented_roles(self) -> list[str]:
        return [*sorted({Role.ADMIN, Role.CUSTOMER, Role.STAFF}), "key"]

    async def admit(self, connection: HTTPConnection) -> Caller:
        caller = await super().admit(connection)
        if caller is NOBODY and not connection.query_params.get("key"):
            raise Unauthenticated(
                "This needs the order's key, as in the links that placing it returned (?key=…), or a token: send "
                "Authorization: Bearer TOKEN."
            )
        return caller


class MetricsAccess(Access):
    """Staff, or METRICS_TOKEN."""

    def __init__(self) -> None:
        super().__init__(Role.STAFF)

    @property
    def schemes(self) -> tuple[str, ...]:
        return (TOKEN_SCHEME, METRICS_SCHEME)

    @property
    def documented_roles(self) -> list[str]:
        return [*super().documented_roles, "metrics"]

    async def admit(self, connection: HTTPConnection) -> Caller:
        expected = connection.app.state.doorkeeper.settings.metrics_token
        given = bearer_token(connection) if expected is not None else None
        if expected is not None and given is not None and same_secret(given, expected):
            return NOBODY
        return await super().admit(connection)


def requires(*roles: Role) -> params.Depends:
    """For a route that wants one of these roles. Whoever is admin is staff, too."""
    if not roles:
        raise Misconfigured("requires() wants a role. A route for everybody says OPEN or AsAnyone.")
    dependency: params.Depends = Depends(Access(*roles))
    return dependency


AsStaff = Annotated[Caller, requires(Role.STAFF)]
AsAdmin = Annotated[Caller, requires(Role.ADMIN)]
AsWorker = Annotated[Caller, requires(Role.WORKER)]
AsCustomer = Annotated[Caller, requires(Role.CUSTOMER)]
AsAnyone = Annotated[Caller, Depends(AnyoneAccess())]
AsOrderCaller = Annotated[Caller, Depends(OrderAccess())]
OPEN: params.Depends = Depends(OpenAccess())
METRICS: params.Depends = Depends(MetricsAccess())


def access_of(dependant: Dependant, *, route: str) -> Access:
    """The one that a route declares. Raises Misconfigured for none, and for two that differ."""
    found = list(_accesses(dependant))
    kinds = {(type(access), access.roles) for access in found}
    if len(kinds) == 1:
        return found[0]
    if not found:
        raise Misconfigured(
            f"{route} does not say who may use it. Give it a parameter such as `caller: AsStaff`, or "
            "`dependencies=[OPEN]` if everybody may."
        )
    raise Misconfigured(f"{route} says in {len(kinds)} ways who may use it. Leave one.")


def _accesses(dependant: Dependant) -> Iterable[Access]:
    if isinstance(dependant.call, Access):
        yield dependant.call
    for child in dependant.dependencies:
        yield from _accesses(child)


def _words(roles: Iterable[Role]) -> str:
    return " or ".join(sorted(roles)) or "nobody"


def utc_now() -> datetime:
    return datetime.now(UTC)
