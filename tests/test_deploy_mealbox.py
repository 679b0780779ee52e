"""The files in deploy/mealbox/ fit the program and each other: settings, commands, hosts, ports, secrets, mounts."""

import ipaddress
import json
import re
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml  # type: ignore[import-untyped]  # brings no types

from orderup.cli.app import all_commands
from orderup.settings import Settings
from tests.test_deploy import DEPLOY, FILLED_IN, VARIABLES, seconds

FOLDER = DEPLOY / "mealbox"
SECRET = "a-secret-of-thirty-two-characters-or-more"
OURS, OTHERS = ("mealbox", "sandbox"), ("postgres", "rabbitmq", "nginx", "prometheus", "grafana")
EVERYWHERE = "0.0.0.0"  # noqa: S104  in a container of its own


def read(name: str) -> str:
    return (FOLDER / name).read_text()


@cache
def services() -> Any:
    """Each secret filled in with its own name and the same words."""

    def fill(found: re.Match[str]) -> str:
        return found[3] if found[2] == "-" else f"{found[1]}-{SECRET}"

    return yaml.safe_load(FILLED_IN.sub(fill, read("compose.yaml")))["services"]


def environment(name: str) -> dict[str, str]:
    found: dict[str, str] = services()[name]["environment"]
    return found


def options_of(name: str) -> dict[str, Any]:
    command, *words = services()[name]["command"]
    found: dict[str, Any] = all_commands().commands[command].make_context(command, words).params
    return found


def mounted(name: str) -> dict[str, str]:
    """What of this project is where in the container."""
    pairs = [volume.split(":") for volume in services()[name].get("volumes", []) if volume.startswith(".")]
    return {there: here for here, there, _ in pairs}


def test_there_are_no_other_services() -> None:
    assert set(services()) == {*OURS, *OTHERS}


def test_only_settings_that_there_are_are_set_and_they_fit_together() -> None:
    given = environment("mealbox")
    assert given.keys() - VARIABLES == set()
    assert all(isinstance(value, str) for value in given.values())
    settings = Settings.from_environment(given)
    assert settings.secret_key is not None
    assert settings.rabbitmq_require_route is False


def test_secrets_are_asked_for_and_none_is_in_the_file() -> None:
    told = [(name, how) for name, how, _ in FILLED_IN.findall(read("compose.yaml"))]
    asked_for = {name for name, how in told if how == "?"}
    assert asked_for == {"SECRET_KEY", "METRICS_TOKEN", "POSTGRES_PASSWORD", "RABBITMQ_PASSWORD", "GRAFANA_PASSWORD"}
    assert {name for name, how in told if how != "?"} & asked_for == set()
    [made] = re.findall(r"^# +for name in ([A-Z_ ]+);", read("compose.yaml"), re.MULTILINE)
    assert set(made.split()) == asked_for
    assert ".env" in (DEPLOY / ".gitignore").read_text().splitlines()


def test_the_commands_are_ones_that_there_are_and_stopping_takes_longer_than_the_grace() -> None:
    shop, sandbox = options_of("mealbox"), options_of("sandbox")
    assert shop["shops"] == ["mealbox"]
    assert {shop["front_host"], shop["back_host"], sandbox["host"]} == {EVERYWHERE}
    assert seconds(services()["mealbox"]["stop_grace_period"]) > shop["grace"] + 10
    assert services()["mealbox"]["build"] == services()["sandbox"]["build"]
    assert (FOLDER / services()["mealbox"]["build"]["context"] / "deploy" / "Dockerfile").is_file()


def test_each_service_is_asked_for_where_it_is_by_whom_it_lets_in() -> None:
    shop, postgres, rabbitmq = environment("mealbox"), environment("postgres"), environment("rabbitmq")
    database, broker = urlsplit(shop["DATABASE_URL"]), urlsplit(shop["RABBITMQ_URL"])
    assert (database.hostname, database.port, database.path) == ("postgres", 5432, f"/{postgres['POSTGRES_DB']}")
    assert (database.username, database.password) == (postgres["POSTGRES_USER"], postgres["POSTGRES_PASSWORD"])
    assert (broker.hostname, broker.port) == ("rabbitmq", 5672)
    assert broker.username == rabbitmq["RABBITMQ_DEFAULT_USER"]
    assert broker.password == rabbitmq["RABBITMQ_DEFAULT_PASS"]
    sandbox = options_of("sandbox")
    for name in ("USER_SERVICE_URL", "PRODUCT_SERVICE_URL"):
        url = urlsplit(shop[name])
        assert ([url.hostname], url.port, url.path) == (sandbox["name"], sandbox["port"], "/mealbox")
        assert url.hostname in services()


def test_nginx_alone_is_believed_and_reached_from_outside() -> None:
    addresses = {name: services()[name]["networks"]["shop"]["ipv4_address"] for name in ("mealbox", "nginx")}
    assert environment("mealbox")["TRUSTED_PROXIES"] == addresses["nginx"]
    [subnet] = yaml.safe_load(read("compose.yaml"))["networks"]["shop"]["ipam"]["config"]
    assert all(ipaddress.ip_address(each) in ipaddress.ip_network(subnet["subnet"]) for each in addresses.values())
    shop, nginx = options_of("mealbox"), environment("nginx")
    assert nginx["MEALBOX_FRONT"] == f"{addresses['mealbox']}:{shop['front_port']}"
    assert nginx["MEALBOX_BACK"] == f"{addresses['mealbox']}:{shop['back_port']}"
    front, back = services()["nginx"]["ports"]
    assert front == f"80:{nginx['FRONT_LISTEN']}"
    assert back == f"127.0.0.1:8001:{nginx['BACK_LISTEN']}"
    for name in set(services()) - {"nginx"}:
        assert all(port.startswith("127.0.0.1:") for port in services()[name].get("ports", [])), name


def test_nginx_is_given_all_that_its_template_asks_for() -> None:
    text = read("mealbox.conf.template")
    without_comments = re.sub(r"^ *#.*$", "", text, flags=re.MULTILINE)
    assert set(re.findall(r"\$\{([A-Z_]+)\}", without_comments)) == environment("nginx").keys()
    assert "proxy_set_header X-Forwarded-For $remote_addr;" in text


@pytest.mark.parametrize("name", ["nginx", "prometheus", "grafana"])
def test_every_file_that_is_mounted_is_there_and_only_read(name: str) -> None:
    assert mounted(name)
    assert all((FOLDER / here).is_file() for here in mounted(name).values())
    assert all(volume.endswith(":ro") for volume in services()[name]["volumes"] if volume.startswith("."))


def test_prometheus_asks_the_back_with_the_token_and_knows_the_alerts() -> None:
    settings, started = yaml.safe_load(read("prometheus.yml")), " ".join(services()["prometheus"]["entrypoint"])
    [job] = settings["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"mealbox:{options_of('mealbox')['back_port']}"]}]
    assert f'"$$METRICS_TOKEN" > {job["authorization"]["credentials_file"]}' in started
    assert environment("prometheus")["METRICS_TOKEN"] == environment("mealbox")["METRICS_TOKEN"]
    files = mounted("prometheus")
    assert settings["rule_files"] == [path for path in files if path.endswith("alerts.yml")]
    [config] = re.findall(r"--config.file=(\S+)", started)
    assert config in files


def test_grafana_asks_prometheus_and_shows_the_dashboard() -> None:
    [source] = yaml.safe_load(read("grafana/datasources.yaml"))["datasources"]
    assert (source["url"], source["isDefault"]) == ("http://prometheus:9090", True)
    [provider] = yaml.safe_load(read("grafana/dashboards.yaml"))["providers"]
    [shown] = [there for there in mounted("grafana") if there.endswith(".json")]
    assert str(Path(shown).parent) == provider["options"]["path"]
    dashboard = json.loads((FOLDER / mounted("grafana")[shown]).read_text())
    [wanted] = [each["query"] for each in dashboard["templating"]["list"] if each["type"] == "datasource"]
    assert source["type"] == wanted
    assert {path.split("/")[4] for path in mounted("grafana") if "provisioning" in path} == {
        "datasources",
        "dashboards",
    }


@pytest.mark.parametrize("name", [*OURS, *OTHERS])
def test_each_is_locked_pinned_and_says_whether_it_is_well(name: str) -> None:
    service = services()[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is (name != "rabbitmq")
    assert service["restart"] == "unless-stopped"
    assert "privileged" not in service
    # the shop's own is in its image
    assert "healthcheck" in service or name == "mealbox"
    if name in OTHERS:
        assert re.search(r":v?\d+\.\d+[\w.-]*$", service["image"]), service["image"]
    for other, how in dict(service.get("depends_on", {})).items():
        assert how["condition"] == "service_healthy"
        assert other in services()


def test_what_must_not_be_lost_is_in_volumes_under_a_name_that_stays() -> None:
    kept = yaml.safe_load(read("compose.yaml"))["volumes"].keys()
    used = {
        volume.split(":")[0] for each in services().values() for volume in each.get("volumes", []) if volume[0] != "."
    }
    assert used == kept
    assert services()["postgres"]["volumes"] == ["orders:/var/lib/postgresql/data"]
    assert services()["rabbitmq"]["volumes"] == ["messages:/var/lib/rabbitmq"]
    assert services()["rabbitmq"]["hostname"] == "rabbitmq"
