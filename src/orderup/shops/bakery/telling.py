"""A cake is ready, and its customer is told: on Slack if he is there, else by mail.

On Slack once: each message has a key, and whoever does not know whether it was posted looks for it. By mail a second
time only where the answer to the first was lost, with the same Message-ID.
"""

from datetime import UTC, datetime
from typing import Any

from orderup import Context
from orderup.db.database import WriteConnection
from orderup.errors import UpstreamRefused
from orderup.integrations.mail import Mail, address_of
from orderup.integrations.slack import escape
from orderup.model.ids import read_id
from orderup.model.times import as_datetime
from orderup.shops.bakery.orders import BakeryOrder, note_told, order_of
from orderup.shops.bakery.plan import NOTE_TOLD, PATIENT, STUBBORN, TELL, shop
from orderup.shops.bakery.services import Services

SLACK, MAIL = "slack", "mail"
SUBJECT = "Your cake is ready"


@shop.handler(TELL, says="Your cake is ready: we are telling you", retry=STUBBORN, within=PATIENT)
async def tell_customer(context: Context) -> Any:
    """By which way, and where. `memo`: of a message on Slack that may have been posted, or that he is not there."""
    operation_id = read_id(context.operation_id)
    order = await context.read(lambda connection: order_of(connection, operation_id))
    if order is None or order.customer is None:
        return None  # forgotten
    services: Services = context.resources
    told = await _tell_on_slack(context, services, order)
    return told or await _tell_by_mail(context, services, order)


async def _tell_on_slack(context: Context, services: Services, order: BakeryOrder) -> Any:
    """None: he is not there, or there are several of his name."""
    if (context.memo or {}).get("by") == MAIL:
        return None
    try:
        posted = await _find_posted(context, services) or await _post(context, services, order)
    except UpstreamRefused as error:
        context.log.warning("Slack does not take a message to a customer", error=str(error))
        posted = None
    if posted is None:
        await context.remember({"by": MAIL})
    return posted


async def _find_posted(context: Context, services: Services) -> Any:
    """What became of an attempt of which nobody said whether it posted. None: nothing."""
    memo = context.memo
    if memo is None:
        return None
    channel, since = memo["channel"], datetime.fromtimestamp(memo["since"], UTC)
    ts = await services.slack.find_posted(channel, key=_key(context), since=since)
    return None if ts is None else {"by": SLACK, "channel": channel, "ts": ts}


async def _post(context: Context, services: Services, order: BakeryOrder) -> Any:
    user = await _find_user(services, order)
    if user is None:
        return None
    channel = await services.slack.open_dm(user)
    await context.remember({"channel": channel, "since": services.now()})
    ts = await services.slack.post(channel, text=_words(order), key=_key(context))
    return {"by": SLACK, "channel": channel, "ts": ts}


async def _find_user(services: Services, order: BakeryOrder) -> str | None:
    assert order.customer is not None
    by_email = None if order.email is None else await services.slack.find_by_email(order.email)
    return by_email or (await services.slack.find_by_name(order.customer)).user_id


async def _tell_by_mail(context: Context, services: Services, order: BakeryOrder) -> Any:
    """Of an address that we guessed we do not know whose it is: it is told nothing of the order."""
    assert order.customer is not None
    settings = services.settings
    message_id = f"<order-{order.number}-ready.{context.operation_id}@{settings.smtp_from.rpartition('@')[2]}>"
    if order.email is not None:
        mail = Mail(order.email, SUBJECT, _letter(order), message_id, to_name=order.customer)
    else:
        address = address_of(order.customer, domain=settings.bakery_mail_domain)
        mail = Mail(address, SUBJECT, GUESSED_LETTER, message_id)
    await services.mailer.send(mail)
    return {"by": MAIL, "message_id": message_id}


@shop.step(NOTE_TOLD, says="Ready for you")
def note_told_customer(connection: WriteConnection, context: Context) -> None:
    told = context.inputs[TELL]
    if told is not None:
        words = f"{SLACK} {told['channel']} {told['ts']}" if told["by"] == SLACK else f"{MAIL} {told['message_id']}"
        note_told(connection, read_id(context.operation_id), words)


def _key(context: Context) -> str:
    """By which its message is known again."""
    return f"{context.operation_id}:ready"


def _words(order: BakeryOrder) -> str:
    cake = f"{order.quantity} × {order.cake.name}" if order.quantity > 1 else order.cake.name
    return f"Order {order.number} is ready: {escape(cake)}. Come and get it!"


def _letter(order: BakeryOrder) -> str:
    placed = as_datetime(order.placed_at).strftime("%d/%m/%Y")
    return (
        f"Dear {order.customer},\n\nyour order {order.number} of {placed} is ready: {order.quantity} × "
        f"{order.cake.name}, for {order.persons} each.\n\nYou can fetch it whenever we are open.\n\nYour bakery\n"
    )


GUESSED_LETTER = (
    "Good day,\n\nan order at our bakery is ready to be fetched. We were given no address for it, and took this one "
    "for its customer's. If it is not yours, please forgive us and throw this away.\n\nYour bakery\n"
)
