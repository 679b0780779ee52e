"""Every setting, read once and checked as a whole at start.

A field `database_url` is the variable `DATABASE_URL`, or a file that holds its value (orderup/environment.py). Only the
commands read the environment, through `Settings.from_environment(os.environ)`; everybody else is handed a `Settings`,
and a test writes one.
"""

import base64
import ipaddress
import re
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from orderup.environment import Given, read_environment
from orderup.errors import Misconfigured

SHORTEST_SECRET_KEY = 32
SHORTEST_KEYS_DAYS = 7
SHORTEST_WEBHOOK_KEY, LONGEST_WEBHOOK_KEY = 24, 64


class LogFormat(StrEnum):
    PEOPLE = "people"
    JSON = "json"


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class SmtpSecurity(StrEnum):
    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


def _check_url(url: str, *schemes: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in schemes or not parts.netloc:
        listed = " or ".join(f"{scheme}://" for scheme in schemes)
        raise ValueError(f"must be an address that begins with {listed} and names a host")
    return url


def _read_url(*schemes: str) -> AfterValidator:
    return AfterValidator(lambda url: _check_url(url, *schemes).rstrip("/"))


def _check_webhook_secret(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if not text.startswith("whsec_") or not SHORTEST_WEBHOOK_KEY <= len(key) <= LONGEST_WEBHOOK_KEY:
        raise ValueError(
            f"must be whsec_ and {SHORTEST_WEBHOOK_KEY} to {LONGEST_WEBHOOK_KEY} bytes in base64, such as what this "
            'prints: python3 -c "import base64, secrets; '
            "print('whsec_' + base64.b64encode(secrets.token_bytes(32)).decode())\""
        )
    return secret


def _read_web_page(url: str) -> str:
    if urlsplit(url).query or urlsplit(url).fragment:
        raise ValueError("must end with its path: leave out what follows ? or #")
    return url


def _read_database(url: str) -> str:
    scheme = urlsplit(url).scheme
    if scheme == "postgres":
        return "postgresql" + url.removeprefix("postgres")
    if scheme not in {"sqlite", "postgresql"}:
        raise ValueError(
            "must be sqlite:///PATH (one file), sqlite:// (in memory, gone at the end) or postgresql://USER@HOST/NAME"
        )
    return url


def _read_list(value: object) -> object:
    """From `10.0.0.0/8, 192.168.1.7`, as it stands in the environment."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _check_network(value: str) -> str:
    try:
        ipaddress.ip_network(value)
    except ValueError as error:
        raise PydanticCustomError(
            "network", "{quoted} is neither an address nor a network such as 10.0.0.0/8", {"quoted": repr(value)}
        ) from error
    return value


def _check_token(token: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!-~]+", token.get_secret_value()):
        raise ValueError("must be made of visible ASCII characters, so that it fits into a header")
    return token


def _check_repository(name: str) -> str:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name, re.ASCII):
        raise ValueError("must be of the form OWNER/NAME")
    return name


def _check_celery_prefix(name: str) -> str:
    if not re.fullmatch(r"[\w-]{1,50}", name, re.ASCII):
        raise ValueError("must be letters, digits, underscores and hyphens, at most 50")
    return name


def _check_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("is no time zone; write it like Europe/Paris") from error
    return name


def _check_mail_domain(name: str) -> str:
    if len(name) > 253 or not re.fullmatch(r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*", name):
        raise ValueError("must be the part behind an address's @, such as gmail.com")
    return name


HttpUrl = Annotated[str, _read_url("http", "https")]
# To the letter: a slash at its end may matter to whoever reads it.
ExactUrl = Annotated[str, AfterValidator(lambda url: _check_url(url, "http", "https"))]
WebhookSecret = Annotated[SecretStr, AfterValidator(_check_webhook_secret)]
PageUrl = Annotated[HttpUrl, AfterValidator(_read_web_page)]
DatabaseUrl = Annotated[str, AfterValidator(_read_database)]
RedisUrl = Annotated[str, _read_url("redis", "rediss")]
AmqpUrl = Annotated[str, _read_url("amqp", "amqps")]
BrokerUrl = Annotated[str, _read_url("amqp", "amqps", "redis", "rediss")]
Network = Annotated[str, AfterValidator(_check_network)]
Networks = Annotated[tuple[Network, ...], BeforeValidator(_read_list)]
Names = Annotated[tuple[str, ...], BeforeValidator(_read_list)]
Token = Annotated[SecretStr, AfterValidator(_check_token)]
CeleryPrefix = Annotated[str, AfterValidator(_check_celery_prefix)]
Zone = Annotated[str, AfterValidator(_check_zone)]
MailDomain = Annotated[str, AfterValidator(_check_mail_domain)]
Repository = Annotated[str, AfterValidator(_check_repository)]


class Settings(BaseModel):
    """Frozen. An unset secret is None, never a default."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True, validate_default=True
    )

    # Where everything is kept, and for how long

    database_url: DatabaseUrl = "sqlite:///./var/orderup.db"
    """The one database: sqlite:///PATH, sqlite:// (in memory, gone at the end) or postgresql://USER@HOST/NAME."""
    retention_days: Annotated[int, Field(ge=1, le=3650)] = 30
    """Days that finished operations and their events are kept before they are pruned."""
    keys_days: Annotated[int, Field(le=3660)] | None = None
    """Days that idempotency keys and due times are kept: at least 7, and longer than RETENTION_DAYS. Unset:
    RETENTION_DAYS and 7 more."""

    # Who may come in

    secret_key: SecretStr | None = None
    """Signs tokens and keys, 32 characters or more. Unset: this machine only, and every caller on it has every role."""
    worker_token: Token | None = None
    """Makes its bearer a worker for every shop and region. Unset: there is none."""
    metrics_token: Token | None = None
    """May read /metrics and nothing else. Unset: only staff reads them."""
    trusted_proxies: Networks = ()
    """Addresses and networks, separated by commas, of the proxies whose X-Forwarded-For and X-Forwarded-Proto are
    believed. Unset: nobody's are."""
    max_body_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 1 << 20
    """Bytes that the body of a request may have; more is 413."""
    import_megabytes: Annotated[int, Field(ge=1, le=10_000)] = 512
    """Megabytes that a file of campaigns may have that is sent to be imported; more is 413."""
    max_header_bytes: Annotated[int, Field(ge=4096, le=1 << 20)] = 64 << 10
    """Bytes that the head of a request, its first line and headers, may have; more is 431."""

    # Where things are found

    server_url: PageUrl | None = None
    """Where workers and simulations find the server. Unset: http://localhost:8001."""
    base_server_url: PageUrl | None = None
    """One address for front and back, as a proxy before both has it: simulations go there. Unset: SERVER_URL."""
    public_url: PageUrl | None = None
    """What links to the front begin with. Unset: the address that the request was sent to."""

    # How work is done

    lease_seconds: Annotated[int, Field(ge=2, le=86_400)] = 30
    """Seconds that a claim lasts without a heartbeat: at least twice HEARTBEAT_SECONDS."""
    heartbeat_seconds: Annotated[int, Field(ge=1, le=43_200)] = 10
    """Seconds between two heartbeats of a worker."""
    station_lease_seconds: Annotated[int, Field(ge=2, le=86_400)] = 600
    """Seconds that a claim lasts that a person made at a station, once its page is closed or its tablet asleep."""
    rfa_expiry_hours: Annotated[float, Field(gt=0, le=8760)] = 24
    """Hours until a request for approval that nobody answers expires."""

    # What one client may ask for, in shops that limit it

    client_open_orders: Annotated[int, Field(ge=1, le=1_000_000)] = 250
    """Orders that one client may have open at once: a token's subject, else an address (IPv6: its /64)."""
    client_orders_a_minute: Annotated[int, Field(ge=1, le=1_000_000)] = 400
    """New orders that one client may place within a minute."""
    client_turns_after: Annotated[int, Field(ge=0, le=1_000_000)] = 20
    """Clients with more orders waiting than this take turns with all others. 0: never, the oldest is always first."""
    head_seconds: Annotated[float, Field(gt=0, le=3600)] = 10
    """Seconds in which the head of a request must have come, counted from its first byte or from the connection."""
    body_seconds: Annotated[float, Field(gt=0, le=3600)] = 30
    """Seconds in which the body of a request must have come, once its head has; and its answer been taken."""

    # The coffee bar

    coffee_lease_seconds: Annotated[int, Field(ge=2, le=86_400)] = 180
    """Seconds after which a coffee that a barista has started and not finished goes back to the head of the line."""
    coffee_keep_seconds: Annotated[float, Field(ge=0, le=86_400)] = 60
    """Seconds that the order of a customer who hung up is kept for him, if he ordered with an Idempotency-Key."""
    coffee_orphan_seconds: Annotated[float, Field(ge=0, le=86_400)] = 120
    """Seconds that orders are kept whose process was killed, counted from the next start."""

    # The meal boxes

    mealbox_wait_seconds: Annotated[float, Field(ge=0, le=60)] = 2
    """Seconds that a meal-box order is waited for before it is answered that we have it, unless its caller says."""
    mealbox_attempts: Annotated[int, Field(ge=1, le=100)] = 5
    """Times that a service is asked for one meal-box order before the order has failed."""
    mealbox_product_cache_seconds: Annotated[float, Field(ge=0, le=86_400)] = 0
    """Seconds that a product is remembered, in each process, before its service is asked for it again. 0: never."""
    upstream_deadline_seconds: Annotated[float, Field(gt=0, le=3600)] = 90
    """Seconds that a call to the services of users and products may take: longer than their slowest honest answer."""
    upstream_most_in_flight: Annotated[int, Field(ge=1, le=100_000)] = 800
    """Calls to one of those services that may be under way at once, in one process."""

    # The bakery

    bakery_daily_issue: bool = True
    """1: ingredients are ordered by one issue a day, at 06:00 UTC. 0: by one issue an order."""
    bakery_issue_due_days: Annotated[int, Field(ge=0, le=365)] = 1
    """Days after which the ingredients of an issue are due."""
    bakery_zone: Zone = "UTC"
    """The time zone of the bakery's clock, such as Europe/Paris: of times that are written for people."""
    bakery_mail_domain: MailDomain = "gmail.com"
    """Where a customer is written to whose address nobody knows, as mr_cakelover@ this domain."""

    # What is said about it

    log_format: LogFormat = LogFormat.PEOPLE
    """people (coloured on a terminal) or json (one object a line)."""
    log_level: LogLevel = LogLevel.INFO
    """The least that is logged: debug, info, warning or error."""

    # Who is told of what happens

    webhook_url: ExactUrl | None = None
    """Where each event is posted to, signed with WEBHOOK_SECRET. Unset: nowhere."""
    webhook_secret: WebhookSecret | None = None
    """Signs what goes to WEBHOOK_URL: whsec_ and 24 to 64 bytes in base64."""

    # Brokers

    redis_url: RedisUrl | None = None
    """A Redis server. Unset: REDIS_HOST, else none."""
    redis_host: str | None = None
    """The host of a Redis server at port 6379; REDIS_URL goes before."""
    rabbitmq_url: AmqpUrl | None = None
    """Where events are published to. Unset: nowhere."""
    rabbitmq_require_route: bool = False
    """1: a message that no queue takes is kept and sent again. 0: it is counted, warned of once, and done with."""
    celery_broker_url: BrokerUrl | None = None
    """The broker of `--executor celery`. Unset: RABBITMQ_URL, else Redis."""
    celery_prefix: CeleryPrefix = "orderup"
    """What the names of Celery's queues begin with: two installations on one broker need two."""
    celery_shops: Names = ()
    """The shops whose tasks Celery workers do, separated by commas. Unset: all that are installed."""
    celery_slots: Annotated[int, Field(ge=1, le=100_000)] = 100
    """Tasks that run at once in each process of a Celery worker."""
    celery_grace_seconds: Annotated[float, Field(ge=0, le=3600)] = 10
    """Seconds that running tasks get to finish when a process of a Celery worker ends."""

    # Third parties; the sandbox stands in for those without credentials

    user_service_url: HttpUrl | None = None
    """The service that knows users. Unset: the sandbox's."""
    product_service_url: HttpUrl | None = None
    """The service that knows products. Unset: the sandbox's."""
    dsp_url: HttpUrl | None = None
    """The advertising platform. Unset: the sandbox's."""
    dsp_token: SecretStr | None = None
    """Goes with DSP_URL, where the platform wants to know who asks."""
    dsp_requests_a_minute: Annotated[int, Field(ge=4, le=1_000_000)] = 40
    """Requests that the platform is sent in any minute, by all processes together."""
    dsp_deadline_seconds: Annotated[float, Field(gt=0, le=300)] = 20
    """Seconds that a call to the platform may take."""
    dsp_search_seconds: Annotated[float, Field(ge=0, le=3600)] = 20
    """Seconds until something that was just submitted can be found, so that nothing is submitted twice."""
    dsp_status_seconds: Annotated[float, Field(ge=0.01, le=3600)] = 5
    """Seconds until the platform is asked how it stands with what was submitted; twice as long each time, up to 60."""
    dsp_poll_seconds: Annotated[float, Field(ge=1, le=3600)] = 10
    """Seconds between two looks at what the platform says about customers' tasks."""

    jira_base_url: HttpUrl | None = None
    """Jira's API: https://SITE.atlassian.net, or https://api.atlassian.com/ex/jira/CLOUD_ID for a scoped token."""
    jira_browse_url: HttpUrl | None = None
    """What links to issues begin with. Unset: JIRA_BASE_URL, which is right unless the token is scoped."""
    jira_email: str | None = None
    """Whose token JIRA_API_TOKEN is."""
    jira_api_token: SecretStr | None = None
    """Unset: the sandbox stands in for Jira."""
    jira_project: str = "BAKE"
    """The key of the project that issues are made in."""
    jira_search_seconds: Annotated[float, Field(gt=0, le=3600)] = 20
    """Seconds until an issue that was just made can be found, so that none is made twice."""
    jira_webhook_secret: SecretStr | None = None
    """Signs Jira's webhooks. Unset: they are off, 404."""
    jira_automation_secret: SecretStr | None = None
    """Comes in a header with the web requests of Jira's automation rules. Unset: they are off, 404."""

    slack_base_url: HttpUrl = "https://slack.com/api"
    """Slack's Web API."""
    slack_bot_token: SecretStr | None = None
    """xoxb-…. Unset: the sandbox stands in for Slack."""

    smtp_host: str | None = None
    """The mail server. Unset: the sandbox stands in for it."""
    smtp_port: Annotated[int, Field(ge=1, le=65_535)] = 587
    """The mail server's port: 587 goes with starttls, 465 with tls."""
    smtp_security: SmtpSecurity = SmtpSecurity.STARTTLS
    """starttls, tls, or none (for a server on this machine only)."""
    smtp_username: str | None = None
    """Unset: mail is sent without signing in."""
    smtp_password: SecretStr | None = None
    """Goes with SMTP_USERNAME."""
    smtp_from: str = "orders@localhost"
    """The address that mail comes from."""

    google_credentials_file: Path | None = None
    """The key file (JSON) of a service account. Unset: the sandbox stands in for Google."""
    google_token_url: HttpUrl | None = None
    """Where Google's tokens come from. Unset: what the key file says."""
    google_drive_url: HttpUrl = "https://www.googleapis.com/drive/v3"
    """The Drive API."""
    google_docs_url: HttpUrl = "https://docs.googleapis.com/v1"
    """The Docs API."""
    google_search_seconds: Annotated[float, Field(gt=0, le=3600)] = 20
    """Seconds until a document that was just made can be found, so that none is made twice."""
    google_drive_id: str | None = None
    """The shared drive that documents are kept in. Unset: the account's own."""

    github_base_url: HttpUrl = "https://api.github.com"
    """GitHub's API; of an own server https://HOST/api/v3."""
    github_token: SecretStr | None = None
    """Unset: the sandbox stands in for GitHub."""
    github_repository: Repository | None = None
    """OWNER/NAME of the repository that developers are invited to."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """From variables by their names, or files that hold their values (orderup/environment.py); an empty variable
        counts as unset, unknown ones are other programs'.

        Raises Misconfigured, which names every variable that is wrong and the way out.
        """
        given = given_settings(environment)
        try:
            return cls.model_validate({name: each.value for name, each in given.items()})
        except ValidationError as error:
            raise Misconfigured("\n".join(_explain(problem, given) for problem in error.errors())) from error

    @property
    def lease(self) -> timedelta:
        return timedelta(seconds=self.lease_seconds)

    @property
    def station_lease(self) -> timedelta:
        return timedelta(seconds=self.station_lease_seconds)

    @property
    def heartbeat(self) -> timedelta:
        return timedelta(seconds=self.heartbeat_seconds)

    @property
    def dsp_deadline(self) -> timedelta:
        return timedelta(seconds=self.dsp_deadline_seconds)

    @property
    def retention(self) -> timedelta:
        return timedelta(days=self.retention_days)

    @property
    def keys_kept_for(self) -> timedelta:
        return timedelta(days=self.keys_days or self.retention_days + SHORTEST_KEYS_DAYS)

    @property
    def rfa_expiry(self) -> timedelta:
        return timedelta(hours=self.rfa_expiry_hours)

    @property
    def redis(self) -> str | None:
        """The Redis server's URL, whichever way it was given."""
        if self.redis_url or not self.redis_host:
            return self.redis_url
        return f"redis://{self.redis_host}:6379"

    @property
    def celery_grace(self) -> timedelta:
        return timedelta(seconds=self.celery_grace_seconds)

    @property
    def celery_broker(self) -> str | None:
        return self.celery_broker_url or self.rabbitmq_url or self.redis

    @property
    def secrets(self) -> frozenset[str]:
        """Every secret value that is set, passwords inside URLs included: none of them may be logged."""
        values = [getattr(self, name) for name in type(self).model_fields]
        hidden = {value.get_secret_value() for value in values if isinstance(value, SecretStr)}
        passwords = {urlsplit(value).password for value in values if isinstance(value, str) and "://" in value}
        return frozenset(hidden | {password for password in passwords if password})

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        problems = [*self._secret_problems(), *self._time_problems(), *self._pair_problems()]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _secret_problems(self) -> list[str]:
        problems = []
        key = self.secret_key.get_secret_value() if self.secret_key else None
        if key is not None and len(key) < SHORTEST_SECRET_KEY:
            problems.append(
                f"SECRET_KEY has {len(key)} characters, too few to keep anybody out. Use {SHORTEST_SECRET_KEY} or "
                'more, such as what this prints: python3 -c "import secrets; print(secrets.token_urlsafe(32))"'
            )
        if key is None and self.trusted_proxies:
            problems.append(
                "TRUSTED_PROXIES is set without SECRET_KEY, and without it whatever comes through a proxy is refused. "
                "Set SECRET_KEY."
            )
        tokens = [token.get_secret_value() for token in (self.worker_token, self.metrics_token) if token]
        if len({*tokens, key}) < len(tokens) + 1:
            problems.append("SECRET_KEY, WORKER_TOKEN and METRICS_TOKEN open different doors. Give each its own value.")
        return problems

    def _time_problems(self) -> list[str]:
        problems = []
        if self.lease_seconds < 2 * self.heartbeat_seconds:
            problems.append(
                f"LEASE_SECONDS={self.lease_seconds} is less than twice HEARTBEAT_SECONDS={self.heartbeat_seconds}. "
                f"Use {2 * self.heartbeat_seconds} or more."
            )
        if self.keys_days is not None:
            least = max(SHORTEST_KEYS_DAYS, self.retention_days + 1)
            if self.keys_days < least:
                problems.append(
                    f"KEYS_DAYS={self.keys_days} forgets keys too early: they outlive RETENTION_DAYS="
                    f"{self.retention_days} and last at least {SHORTEST_KEYS_DAYS} days. Use {least} or more."
                )
        return problems

    def _pair_problems(self) -> list[str]:
        """Of settings that make sense only together."""
        pairs = [
            ("jira_api_token", "jira_email"),
            ("jira_api_token", "jira_base_url"),
            ("smtp_username", "smtp_password"),
            ("smtp_password", "smtp_username"),
            ("github_token", "github_repository"),
            ("webhook_url", "webhook_secret"),
            ("webhook_secret", "webhook_url"),
        ]
        return [
            f"{variable_of(one)} is set without {variable_of(other)}. Set both, or neither."
            for one, other in pairs
            if getattr(self, one) is not None and getattr(self, other) is None
        ]


def variable_of(field: str) -> str:
    """The environment variable of a field."""
    return field.upper()


def given_settings(environment: Mapping[str, str]) -> dict[str, Given]:
    """What is set, and where, by the names of the fields. Raises Misconfigured."""
    given = read_environment(environment, map(variable_of, Settings.model_fields))
    return {name: given[variable_of(name)] for name in Settings.model_fields if variable_of(name) in given}


def _explain(problem: Mapping[str, Any], given: Mapping[str, Given]) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return message
    name = str(problem["loc"][0])
    there = given[name]
    if there.file is not None:
        # It may hold another secret than was meant, so nothing of it is quoted.
        quoted = problem.get("ctx", {}).get("quoted")
        message = message.replace(quoted, "what stands there") if quoted else message
        return f"{variable_of(name)} in {there.file}: {message[0].lower()}{message[1:]}"
    annotation = str(Settings.model_fields[name].annotation)
    # A secret is named, not shown; the password of a URL is as secret.
    shown = "" if "Secret" in annotation or "://" in there.value else f"={there.value}"
    return f"{variable_of(name)}{shown}: {message[0].lower()}{message[1:]}"
