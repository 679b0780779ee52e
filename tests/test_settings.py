import re
from datetime import timedelta

import pytest

from orderup.errors import Misconfigured
from orderup.settings import LogFormat, Settings, variable_of

KEY = "a-key-of-thirty-two-characters-or-more"


def test_an_empty_environment_gives_a_laptop_on_sqlite() -> None:
    settings = Settings.from_environment({})
    assert settings.database_url == "sqlite:///./var/orderup.db"
    assert settings.secret_key is None
    assert settings.lease == timedelta(seconds=30)
    assert settings.rfa_expiry == timedelta(hours=24)


def test_an_empty_variable_counts_as_unset() -> None:
    empty = dict.fromkeys(map(variable_of, Settings.model_fields), "")
    assert Settings.from_environment(empty) == Settings()


def test_variables_of_other_programs_are_ignored() -> None:
    assert Settings.from_environment({"HOME": "/root", "PATH": "/bin"}) == Settings()


def test_settings_are_read_by_the_names_users_know() -> None:
    settings = Settings.from_environment(
        {
            "DATABASE_URL": "postgresql://postgres@127.0.0.1/orderup",
            "LOG_FORMAT": "json",
            "RABBITMQ_REQUIRE_ROUTE": "1",
            "TRUSTED_PROXIES": "10.0.0.0/8, 192.168.1.7",
            "SECRET_KEY": KEY,
        }
    )
    assert settings.database_url == "postgresql://postgres@127.0.0.1/orderup"
    assert settings.log_format is LogFormat.JSON
    assert settings.rabbitmq_require_route
    assert settings.trusted_proxies == ("10.0.0.0/8", "192.168.1.7")
    assert settings.secret_key is not None
    assert settings.secret_key.get_secret_value() == KEY


def test_postgres_is_another_word_for_postgresql() -> None:
    settings = Settings.from_environment({"DATABASE_URL": "postgres://me@db/orders"})
    assert settings.database_url == "postgresql://me@db/orders"


@pytest.mark.parametrize(
    ("environment", "way_out"),
    [
        ({"SECRET_KEY": "short"}, "SECRET_KEY has 5 characters"),
        ({"LEASE_SECONDS": "5", "HEARTBEAT_SECONDS": "4"}, "Use 8 or more."),
        ({"LEASE_SECONDS": "soon"}, "LEASE_SECONDS=soon: input should be a valid integer"),
        ({"DATABASE_URL": "mysql://db/orders"}, "DATABASE_URL: must be sqlite:///PATH"),
        ({"KEYS_DAYS": "6", "RETENTION_DAYS": "1"}, "KEYS_DAYS=6 forgets keys too early"),
        ({"KEYS_DAYS": "30", "RETENTION_DAYS": "30"}, "Use 31 or more."),
        ({"TRUSTED_PROXIES": "10.0.0.0/8"}, "Set SECRET_KEY."),
        ({"TRUSTED_PROXIES": "nginx", "SECRET_KEY": KEY}, "'nginx' is neither an address nor a network"),
        ({"PUBLIC_URL": "shop.example"}, "PUBLIC_URL=shop.example: must be an address that begins with http://"),
        ({"PUBLIC_URL": "https://shop.example/?a=b"}, "leave out what follows ? or #"),
        ({"REDIS_URL": "http://cache"}, "REDIS_URL: must be an address that begins with redis://"),
        ({"LOG_FORMAT": "xml"}, "LOG_FORMAT=xml: input should be 'people' or 'json'"),
        ({"WORKER_TOKEN": "two words"}, "WORKER_TOKEN: must be made of visible ASCII characters"),
        ({"SECRET_KEY": KEY, "WORKER_TOKEN": KEY}, "Give each its own value."),
        ({"WORKER_TOKEN": "one", "METRICS_TOKEN": "one"}, "Give each its own value."),
        ({"JIRA_API_TOKEN": "x"}, "JIRA_API_TOKEN is set without JIRA_EMAIL. Set both, or neither."),
        (
            {"GITHUB_TOKEN": "x", "GITHUB_REPOSITORY": "bakery"},
            "GITHUB_REPOSITORY=bakery: must be of the form OWNER/NAME",
        ),
        ({"SMTP_SECURITY": "ssl"}, "SMTP_SECURITY=ssl: input should be 'starttls', 'tls' or 'none'"),
    ],
)
def test_what_is_wrong_is_named_with_the_way_out(environment: dict[str, str], way_out: str) -> None:
    with pytest.raises(Misconfigured, match=re.escape(way_out)):
        Settings.from_environment(environment)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(Misconfigured) as caught:
        Settings.from_environment({"LEASE_SECONDS": "soon", "DATABASE_URL": "mysql://db", "LOG_LEVEL": "loud"})
    assert [line.split(":")[0].split("=")[0] for line in str(caught.value).splitlines()] == [
        "DATABASE_URL",
        "LEASE_SECONDS",
        "LOG_LEVEL",
    ]


@pytest.mark.parametrize(
    "environment",
    [
        {"WORKER_TOKEN": "canary secret"},
        {"SECRET_KEY": "canary"},
        {"DATABASE_URL": "mysql://me:canary@db"},
        {"RABBITMQ_URL": "http://me:canary@mq"},
        {"SMTP_PASSWORD": "canary"},
    ],
)
def test_no_complaint_shows_a_secret(environment: dict[str, str]) -> None:
    with pytest.raises(Misconfigured) as caught:
        Settings.from_environment(environment)
    assert "canary" not in str(caught.value)


def test_no_secret_is_seen_in_the_settings_own_text() -> None:
    settings = Settings.from_environment({"SECRET_KEY": KEY, "WORKER_TOKEN": "canary"})
    assert "canary" not in repr(settings)
    assert KEY not in repr(settings)


def test_all_secrets_are_known_to_those_who_must_hide_them() -> None:
    settings = Settings.from_environment(
        {"SECRET_KEY": KEY, "WORKER_TOKEN": "knead", "DATABASE_URL": "postgresql://me:hidden@db/orders"}
    )
    assert settings.secrets == {KEY, "knead", "hidden"}


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        setattr(Settings(), "lease_seconds", 60)  # noqa: B010  mypy refuses the plain assignment, too


def test_keys_outlive_retention() -> None:
    assert Settings().keys_kept_for > Settings().retention
    assert Settings(keys_days=40, retention_days=39).keys_kept_for == timedelta(days=40)


def test_redis_and_the_celery_broker_fall_back() -> None:
    assert Settings().redis is None
    assert Settings(redis_host="cache").redis == "redis://cache:6379"
    assert Settings(redis_host="cache", redis_url="redis://other/1").redis == "redis://other/1"
    assert Settings(redis_host="cache").celery_broker == "redis://cache:6379"
    assert Settings(redis_host="cache", rabbitmq_url="amqp://mq").celery_broker == "amqp://mq"


def test_every_setting_says_what_it_is() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_addresses_are_kept_without_a_slash_at_their_end() -> None:
    assert Settings(public_url="https://shop.example/").public_url == "https://shop.example"
