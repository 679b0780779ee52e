"""What the pages are made of: templates of this package and of the shops, and the files that they load.

Files are served under names that hold a digest of their content, so that a browser may keep them for good.
"""

import gzip
import hashlib
import mimetypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, PrefixLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from orderup.errors import Misconfigured, NotFound
from orderup.web.auth import OPEN
from orderup.web.pages import words
from orderup.web.pages.session import csrf_token, visitor_of
from orderup.web.pages.texts import TRANSLATIONS
from orderup.web.routes import Router

# Scripts and styles come from here and stand in no page; nobody may put a page of ours into one of theirs.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
# With no-referrer a browser sends forms with "Origin: null", which is nobody's page.
HEADERS = {"Content-Security-Policy": POLICY, "Referrer-Policy": "same-origin"}
FOLDER = files("orderup.web") / "static" / "site"
FOREVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    """A file, with its name under /static/, and packed."""

    name: str
    media_type: str
    body: bytes
    packed: bytes


class Assets:
    def __init__(self) -> None:
        self._by_file: dict[str, Asset] = {}
        for file in FOLDER.iterdir():
            body = file.read_bytes()
            stem, _, kind = file.name.rpartition(".")
            name = f"{stem}.{hashlib.sha256(body).hexdigest()[:10]}.{kind}"
            media_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
            self._by_file[file.name] = Asset(name, media_type, body, gzip.compress(body, mtime=0))
        self._by_name = {asset.name: asset for asset in self._by_file.values()}

    def url(self, file: str) -> str:
        return f"/static/{self._by_file[file].name}"

    def answer(self, request: Request, name: str) -> Response:
        """Raises NotFound."""
        asset = self._by_name.get(name)
        if asset is None:
            raise NotFound("file", name[:100])
        headers = {"Cache-Control": FOREVER, "Vary": "Accept-Encoding"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(asset.packed, media_type=asset.media_type, headers={**headers, "Content-Encoding": "gzip"})
        return Response(asset.body, media_type=asset.media_type, headers=headers)


@dataclass(frozen=True, slots=True)
class Sign:
    """Over a page: whose it is, and their first page. is_one_of_many: there are others next door."""

    name: str = "orderup"
    address: str = "/"
    is_one_of_many: bool = False


class Site:
    """One an app. templates: the packages of the shops that have a folder `templates`, by the shop's name; there
    `pizza/menu.html` is the pizzeria's. Raises Misconfigured where there is no such folder."""

    def __init__(self, templates: Mapping[str, str], *, shops: Sequence[Any]) -> None:
        self.assets = Assets()
        self.shops = shops
        own = PackageLoader("orderup.web")
        theirs = PrefixLoader({shop: _loader_of(shop, package) for shop, package in templates.items()})
        self.environment = Environment(
            loader=ChoiceLoader([own, theirs]),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.i18n"],
        )
        # what the extension adds to an environment no type knows
        self.environment.install_gettext_translations(TRANSLATIONS, newstyle=True)  # type: ignore[attr-defined]
        self.environment.globals["asset"] = self.assets.url
        self.environment.filters.update(words.FILTERS)

    def page(self, request: Request, template: str, *, code: int = 200, **context: Any) -> HTMLResponse:
        """A page, for whoever asks."""
        text = self.environment.get_template(template).render(
            request=request,
            kind=request.app.state.kind,
            site=self,
            sign=self._sign(request),
            visitor=visitor_of(request),
            csrf=csrf_token(request),
            seq=request.state.seq,
            now=request.app.state.engine.now(),
            **context,
        )
        return HTMLResponse(text, status_code=code, headers=HEADERS)

    def _sign(self, request: Request) -> Sign:
        """To customers a page is the shop's; staff has all shops before them."""
        state, path = request.app.state, request.url.path
        for shop in self.shops:
            address = f"{state.shop_prefixes.get(shop.name)}/"
            if state.kind == "front" and shop.templates and path.startswith(address):
                return Sign(shop.title, address, is_one_of_many=address != "/")
        return Sign()


def _loader_of(shop: str, package: str) -> PackageLoader:
    try:
        return PackageLoader(package)
    except (ImportError, ValueError) as error:
        raise Misconfigured(
            f'The shop {shop} has templates="{package}", but there is no package {package} with a folder templates in '
            "it. Make one, or leave templates out."
        ) from error


def site_of(request: Request) -> Site:
    site: Site = request.app.state.site
    return site


router = Router(tags=["pages"])


@router.get("/static/{name}", dependencies=[OPEN], response_class=Response, summary="A file that the pages load")
async def get_file(request: Request, name: str) -> Response:
    return site_of(request).assets.answer(request, name)
