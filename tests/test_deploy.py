"""The files in deploy/ fit the program, and each other: settings, commands, addresses, limits."""

import ipaddress
import re
from functools import cache
from typing import Any

import yaml  # type: ignore[import-untyped]  # brings no types

from orderup.cli.app import all_commands
from orderup.settings import Settings, variable_of
from tests.serving import ROOT

DEPLOY = ROOT / "deploy"
SECRETS = {"SECRET_KEY": "a-key-of-thirty-two-characters-or-more", "WORKER_TOKEN": "grind-grind-grind", "PORT": ""}
VARIABLES = {variable_of(name) for name in Settings.model_fields}
# What compose fills in: ${NAME}, ${NAME:?what to say if it is missing}, ${NAME:-default}.
FILLED_IN = re.compile(r"\$\{([A-Z_]+)(?::([?-])([^}]*))?\}")


def read(name: str) -> str:
    return (DEPLOY / name).read_text()


@cache
def compose() -> Any:
    def fill(found: re.Match[str]) -> str:
        default = found[3] if found[2] == "-" else ""
        return SECRETS[found[1]] or default

    return yaml.safe_load(FILLED_IN.sub(fill, read("compose.yaml")))


def service(name: str) -> Any:
    return compose()["services"][name]


def seconds(text: str) -> int:
    assert text.endswith("s"), text
    return int(text[:-1])


def test_compose_sets_only_settings_that_there_are_and_they_fit_together() -> None:
    environment = service("coffee")["environment"]
    assert environment.keys() - VARIABLES == set()
    assert all(isinstance(value, str) for value in environment.values())
    settings = Settings.from_environment(environment)
    assert settings.secret_key is not None
    assert settings.worker_token is not None


def test_the_image_sets_only_settings_that_there_are() -> None:
    [line] = re.findall(r"^ENV (DATABASE_URL=.*)$", read("Dockerfile"), re.MULTILINE)
    environment = dict(each.split("=", 1) for each in line.split())
    assert environment.keys() - VARIABLES == set()
    assert Settings.from_environment(environment).database_url == service("coffee")["environment"]["DATABASE_URL"]


def test_compose_will_not_start_without_secrets() -> None:
    asked_for = {name for name, how, _ in FILLED_IN.findall(read("compose.yaml")) if how == "?"}
    assert asked_for == {"SECRET_KEY", "WORKER_TOKEN"}
    assert ".env" in read(".gitignore").splitlines()


def test_the_command_is_one_that_there_is_and_stopping_takes_longer_than_its_grace() -> None:
    name, shop, *options = service("coffee")["command"]
    command = all_commands().commands[name]
    given = command.make_context(name, [shop, *options]).params
    assert given["shops"] == ["coffee"]
    assert {given["front_host"], given["back_host"]} == {"0.0.0.0"}  # noqa: S104  in a container of its own
    assert seconds(service("coffee")["stop_grace_period"]) > given["grace"] + 10


def test_the_bar_believes_nginx_and_nobody_else() -> None:
    addresses = {name: service(name)["networks"]["bar"]["ipv4_address"] for name in ("coffee", "nginx")}
    assert service("coffee")["environment"]["TRUSTED_PROXIES"] == addresses["nginx"]
    [subnet] = compose()["networks"]["bar"]["ipam"]["config"]
    network = ipaddress.ip_network(subnet["subnet"])
    assert all(ipaddress.ip_address(address) in network for address in addresses.values())
    assert "ports" not in service("coffee")
    assert service("nginx")["ports"] == ["0.0.0.0:80:80"]
    nginx = service("nginx")["environment"]
    assert (nginx["COFFEE_FRONT"], nginx["COFFEE_BACK"]) == (
        f"{addresses['coffee']}:8000",
        f"{addresses['coffee']}:8001",
    )


def test_nginx_is_given_all_that_its_template_asks_for_and_the_files_that_it_includes() -> None:
    asked_for = set(re.findall(r"\$\{([A-Z_]+)\}", read("nginx/bar.conf.template")))
    assert asked_for == service("nginx")["environment"].keys()
    mounted = {}
    for volume in service("nginx")["volumes"]:
        here, there, mode = volume.split(":")
        assert (DEPLOY / here).is_file()
        assert mode == "ro"
        mounted[there] = here
    filled_in = {path.replace("templates", "conf.d").removesuffix(".template") for path in mounted}
    included = re.findall(r"^ +include (\S+);", read("nginx/nginx.conf"), re.MULTILINE)
    assert {f"/etc/nginx/{name}" for name in included} <= filled_in


def test_nginx_lets_through_as_much_as_the_bar_does() -> None:
    environment, conf = service("coffee")["environment"], read("nginx/coffee.conf")
    assert re.findall(r"limit_conn coffee_open (\d+);", conf) == [environment["CLIENT_OPEN_ORDERS"]]
    assert re.findall(r"rate=(\d+)r/m", conf) == [environment["CLIENT_ORDERS_A_MINUTE"]]
    assert re.findall(r"burst=(\d+) nodelay", conf) == [environment["CLIENT_ORDERS_A_MINUTE"]]


def test_the_image_is_built_from_files_that_are_there_is_not_root_and_says_whether_it_is_ready() -> None:
    dockerfile, let_in = read("Dockerfile"), re.findall(r"^!(.+)$", read("Dockerfile.dockerignore"), re.MULTILINE)
    copied = [name for line in re.findall(r"^COPY (.+) \S+$", dockerfile, re.MULTILINE) for name in line.split()]
    assert sorted(copied) == sorted(let_in)
    assert all((ROOT / name).exists() for name in copied)
    assert re.findall(r"^USER (\w+)$", dockerfile, re.MULTILINE) == ["orderup"]
    assert re.search(r"^HEALTHCHECK (.|\\\n)*/readyz", dockerfile, re.MULTILINE)
    assert service("coffee")["build"]["dockerfile"] == "deploy/Dockerfile"
