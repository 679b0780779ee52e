"""How the sandbox's pages are made: one look, no script, nothing from elsewhere, forms that lead here only."""

from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

from orderup.sandbox.behaviour import Body
from orderup.sandbox.border import Refused

SHOWN_ARRIVALS = 50
POLICY = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
templates = Environment(
    loader=PackageLoader("orderup.sandbox"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
style = (files("orderup.sandbox") / "templates" / "sandbox.css").read_bytes()


def render(template: str, *, refused: Refused | None = None, **shown: Any) -> Response:
    """`refused`: what was wrong with the form that led here."""
    html = templates.get_template(template).render(last=SHOWN_ARRIVALS, bodies=list(Body), refused=refused, **shown)
    headers = {"content-security-policy": POLICY, "cache-control": "no-store"}
    return HTMLResponse(html, 200 if refused is None else refused.status, headers=headers)
