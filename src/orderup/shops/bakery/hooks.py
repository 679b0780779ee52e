"""What Jira sends us: only a hint. It is stored, answered, and then Jira is asked how the issue stands."""

from fastapi import Request
from starlette.responses import Response

from orderup.db.database import Key
from orderup.engine.desk import Replayed
from orderup.engine.place import place_order, scoped_key
from orderup.errors import NotFound, Unauthenticated
from orderup.integrations.jira_hooks import is_automation, is_signed, read_hook
from orderup.settings import Settings
from orderup.shops.bakery.plan import plan_judgement, shop
from orderup.web import OPEN, Json, Router, engine_of
from orderup.web.orders import settings_of

SIGNATURE, DELIVERY, SECRET = "x-hub-signature", "x-atlassian-webhook-identifier", "x-automation-secret"
hooks = Router(tags=["bakery"])


@hooks.post("/hooks/jira", status_code=202, dependencies=[OPEN], summary="Jira says that an issue has changed")
async def post_jira_hook(request: Request) -> Response:
    """A webhook with its signature, or the web request of an automation rule with the secret in X-Automation-Secret."""
    settings = settings_of(request)
    if settings.jira_webhook_secret is None and settings.jira_automation_secret is None:
        raise NotFound("hook", "jira")
    body = await request.body()
    if not _is_from_jira(request, settings, body):
        raise Unauthenticated("This is not signed as Jira signs it, nor does it carry the automation secret.")
    key = read_hook(body)
    if key is None:
        return Json({"issue": None}, status_code=202)
    await _judge_once(request, key, delivery=request.headers.get(DELIVERY))
    return Json({"issue": key}, status_code=202)


def _is_from_jira(request: Request, settings: Settings, body: bytes) -> bool:
    webhook, automation = settings.jira_webhook_secret, settings.jira_automation_secret
    if webhook is not None and is_signed(webhook.get_secret_value(), body, request.headers.get(SIGNATURE)):
        return True
    return automation is not None and is_automation(automation.get_secret_value(), request.headers.get(SECRET))


async def _judge_once(request: Request, issue: str, *, delivery: str | None) -> None:
    """Webhooks that Jira believes were lost come again, under the same name; requests of rules have none."""
    engine = engine_of(request)
    key = None
    if delivery is not None:
        key = Key(key=scoped_key("jira-hook", shop.name, key=delivery), fingerprint=issue, made_at=engine.now())
    try:
        await place_order(engine, shop.name, plan_judgement(issue), key=key, source="jira")
    except Replayed:
        return
