"""The third parties that the bakery works with. Opened once a process."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

from orderup.integrations.drive import Drive, open_drive
from orderup.integrations.github import GitHub, open_github
from orderup.integrations.jira import Jira, open_jira
from orderup.integrations.mail import Mailer, open_mailer
from orderup.integrations.slack import Slack, open_slack
from orderup.integrations.upstream import UpstreamMetrics
from orderup.settings import Settings

LOCAL_SERVER = "http://localhost:8001"


@dataclass(frozen=True, slots=True)
class Services:
    """cake_names: those that were looked up, by the number of their recipe."""

    settings: Settings
    jira: Jira
    slack: Slack
    mailer: Mailer
    drive: Drive
    github: GitHub
    cake_names: dict[int, str] = field(default_factory=dict)

    def now(self) -> float:
        """Seconds since the epoch, for memos, which another process may read."""
        return time.time()

    def link_to(self, operation_id: str) -> str:
        """Where staff looks at an order, or at what was made of many."""
        return f"{self.settings.server_url or LOCAL_SERVER}/operations/{operation_id}"


@asynccontextmanager
async def open_services(settings: Settings, registry: CollectorRegistry) -> AsyncIterator[Services]:
    metrics = UpstreamMetrics.of(registry)
    async with AsyncExitStack() as stack:
        yield Services(
            settings,
            jira=await stack.enter_async_context(open_jira(settings, metrics)),
            slack=await stack.enter_async_context(open_slack(settings, metrics)),
            mailer=await stack.enter_async_context(open_mailer(settings, metrics)),
            drive=await stack.enter_async_context(open_drive(settings, metrics)),
            github=await stack.enter_async_context(open_github(settings, metrics)),
        )


# What leads to the sandbox, by the setting without which a third party cannot be asked.
STAND_INS: Mapping[str, Mapping[str, str]] = {
    "jira_api_token": {
        "jira_base_url": "{http}/jira",
        "jira_email": "bakery@localhost",
        "jira_api_token": "sandbox",
    },
    "slack_bot_token": {"slack_base_url": "{http}/slack/api", "slack_bot_token": "xoxb-sandbox"},
    "smtp_host": {"smtp_host": "{smtp_host}", "smtp_port": "{smtp_port}", "smtp_security": "none"},
    "google_credentials_file": {
        "google_token_url": "{http}/google/token",
        "google_drive_url": "{http}/google/drive/v3",
        "google_docs_url": "{http}/google/docs/v1",
    },
    "github_token": {
        "github_base_url": "{http}/github",
        "github_token": "sandbox",
        "github_repository": "bakery/recipes",
    },
}
