"""Third parties whose credentials are set, each asked one harmless question: who we are there, and what we may."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

from prometheus_client import CollectorRegistry

from orderup.errors import Misconfigured, Resting, TaskFailed
from orderup.integrations.drive import open_drive
from orderup.integrations.dsp import open_dsp
from orderup.integrations.github import open_github
from orderup.integrations.jira import open_jira
from orderup.integrations.mail import open_mailer
from orderup.integrations.slack import open_slack
from orderup.integrations.upstream import UpstreamMetrics
from orderup.settings import Settings


class Client(Protocol):
    async def check(self) -> str:
        """Who we are there, in a few words."""


class Service(NamedTuple):
    """settings: without one of them there is nothing to ask."""

    title: str
    settings: Sequence[str]
    open: Callable[[Settings, UpstreamMetrics], AbstractAsyncContextManager[Client]]


class Answer(NamedTuple):
    title: str
    is_fine: bool
    words: str


SERVICES = (
    Service("Jira", ("jira_api_token",), open_jira),
    Service("Slack", ("slack_bot_token",), open_slack),
    Service("Mail", ("smtp_host",), open_mailer),
    Service("Google Drive", ("google_credentials_file", "google_token_url"), open_drive),
    Service("Advertising platform", ("dsp_url",), open_dsp),
    Service("GitHub", ("github_token",), open_github),
)


async def check_services(settings: Settings, *, seconds: float) -> Sequence[Answer]:
    """Of those that are set, in their order; all at once, each for so many seconds at most."""
    asked = [each for each in SERVICES if any(getattr(settings, name) is not None for name in each.settings)]
    return await asyncio.gather(*(_check(each, settings, seconds=seconds) for each in asked))


async def _check(service: Service, settings: Settings, *, seconds: float) -> Answer:
    try:
        async with (
            asyncio.timeout(seconds),
            service.open(settings, UpstreamMetrics(CollectorRegistry())) as client,
        ):
            return Answer(service.title, is_fine=True, words=await client.check())
    except Resting:
        # that is what comes of a refusal: in a process that has asked nothing before, there is no other reason
        return Answer(service.title, is_fine=False, words="it does not take these credentials: renew them")
    except TimeoutError:
        return Answer(service.title, is_fine=False, words=f"it did not answer within {seconds:g} s")
    except (TaskFailed, Misconfigured) as error:
        return Answer(service.title, is_fine=False, words=str(error))
