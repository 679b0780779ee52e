"""deploy/bakery: the compose file fits the program, Caddy and the scripts beside it."""

import ipaddress
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from orderup.settings import Settings
from tests.deploy.files import (
    BAKERY,
    DEPLOY,
    EXACT_IMAGE,
    FILLED_IN,
    FOLDER_OF_SECRETS,
    OTHER_SECRETS,
    VARIABLES,
    check,
    command_options,
    compose,
    load,
    made_secrets,
)
from tests.services.waiting import PATIENCE_SECONDS

GIVEN = {"DOMAIN": "cakes.example", "ACME_EMAIL": "ann@cakes.example"}


def service(name: str) -> Any:
    return compose(**GIVEN)["services"][name]


def address_of(name: str) -> str:
    return str(service(name)["networks"]["bakery"]["ipv4_address"])


def test_it_keeps_to_the_schema_of_compose_files() -> None:
    check("check-jsonschema", "--builtin-schema", "vendor.compose-spec", BAKERY / "compose.yaml")


def test_its_settings_are_ones_that_there_are_and_make_a_server_with_the_secrets_of_the_script(tmp_path: Path) -> None:
    environment = service("bakery")["environment"]
    assert environment.keys() - VARIABLES == {FOLDER_OF_SECRETS}
    assert environment[FOLDER_OF_SECRETS] == "/run/secrets"
    secrets = made_secrets(tmp_path)
    settings = Settings.from_environment({**environment, FOLDER_OF_SECRETS: str(secrets)})
    assert settings.public_url == "https://cakes.example"
    assert settings.server_url == "https://staff.cakes.example"
    assert settings.secret_key is not None
    password = (secrets / "POSTGRES_PASSWORD").read_text()
    assert settings.database_url == f"postgresql://orderup:{password}@postgres/orderup"
    assert len({settings.secret_key.get_secret_value(), password, (secrets / "METRICS_TOKEN").read_text()}) == 3
    # What nobody has written into yet counts as unset.
    assert settings.slack_bot_token is None


def test_the_variable_of_the_image_is_out_of_the_way_of_the_secret() -> None:
    [of_the_image] = re.findall(r"DATABASE_URL=\S+", (DEPLOY / "Dockerfile").read_text())
    assert of_the_image != "DATABASE_URL="
    assert service("bakery")["environment"]["DATABASE_URL"] == ""
    assert "DATABASE_URL" in service("bakery")["secrets"]


def test_every_secret_is_a_file_that_the_script_makes_and_named_after_a_setting(tmp_path: Path) -> None:
    whole, made = compose(**GIVEN), made_secrets(tmp_path)
    files = {path.name for path in made.iterdir()}
    assert {name: each["file"] for name, each in whole["secrets"].items()} == {
        name: f"./secrets/{name}" for name in files
    }
    used = [name for each in whole["services"].values() for name in each.get("secrets", [])]
    assert sorted(used) == sorted(files)
    assert files - VARIABLES == OTHER_SECRETS
    assert set(service("bakery")["secrets"]) == files - {"POSTGRES_PASSWORD"}
    postgres = service("postgres")
    assert postgres["environment"]["POSTGRES_PASSWORD_FILE"] == "/run/secrets/POSTGRES_PASSWORD"
    assert postgres["secrets"] == ["POSTGRES_PASSWORD"]


def test_the_script_leaves_alone_what_is_there_and_its_folder_to_its_owner(tmp_path: Path) -> None:
    secrets = made_secrets(tmp_path)
    (secrets / "SLACK_BOT_TOKEN").write_text("xoxb-1")
    before = {path.name: path.read_text() for path in secrets.iterdir()}
    made_secrets(tmp_path)
    assert {path.name: path.read_text() for path in secrets.iterdir()} == before
    assert secrets.stat().st_mode & 0o777 == 0o700
    # Other users read them inside of containers.
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in secrets.iterdir())


def test_no_secret_can_be_committed() -> None:
    ignored = (BAKERY / ".gitignore").read_text().splitlines()
    assert {".env", "secrets/", "backups/"} <= set(ignored)
    for name, value in re.findall(r"^([A-Z_]+)=(.*)$", (BAKERY / "env.example").read_text(), re.MULTILINE):
        assert value == "", name


def test_the_example_names_what_compose_fills_in_and_nothing_else() -> None:
    filled_in = {name for name, _, _ in FILLED_IN.findall((BAKERY / "compose.yaml").read_text())}
    named = re.findall(r"^([A-Z_]+)=", (BAKERY / "env.example").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(filled_in)
    assert not filled_in & set(compose(**GIVEN)["secrets"])


@pytest.mark.parametrize("missing", ["DOMAIN", "ACME_EMAIL"])
def test_it_does_not_start_without_a_name_to_be_found_by(missing: str) -> None:
    with pytest.raises(KeyError, match=missing):
        compose(**{name: value for name, value in GIVEN.items() if name != missing})


@pytest.mark.parametrize(("given", "may_stand_in"), [("", False), ("--sandbox", True)])
def test_the_command_is_one_that_there_is_and_stopping_takes_longer_than_its_grace(
    given: str, *, may_stand_in: bool
) -> None:
    bakery = compose(**GIVEN, SANDBOX=given)["services"]["bakery"]
    options = command_options(bakery["command"])
    assert options["shops"] == ["bakery"]
    assert options["sandbox"] is may_stand_in
    assert {options["front_host"], options["back_host"]} == {"0.0.0.0"}  # noqa: S104  in a container of its own
    assert int(bakery["stop_grace_period"].removesuffix("s")) > options["grace"] + 10
    assert (options["front_port"], options["back_port"]) == (8000, 8001)


def test_the_bakery_believes_caddy_and_nobody_else_and_caddy_finds_it() -> None:
    [subnet] = compose(**GIVEN)["networks"]["bakery"]["ipam"]["config"]
    network = ipaddress.ip_network(subnet["subnet"])
    addresses = [address_of(name) for name in ("bakery", "postgres", "caddy")]
    assert len({address for address in addresses if ipaddress.ip_address(address) in network}) == 3
    assert service("bakery")["environment"]["TRUSTED_PROXIES"] == address_of("caddy")
    caddy = service("caddy")["environment"]
    assert (caddy["FRONT"], caddy["BACK"]) == (f"{address_of('bakery')}:8000", f"{address_of('bakery')}:8001")
    assert caddy.keys() == set(re.findall(r"\{\$([A-Z_]+)\}", (BAKERY / "Caddyfile").read_text()))
    # From outside nobody reaches anything but Caddy.
    assert [name for name, each in compose(**GIVEN)["services"].items() if "ports" in each] == ["caddy"]


def test_other_compose_files_have_other_networks() -> None:
    subnets = [
        ipaddress.ip_network(text)
        for path in DEPLOY.rglob("compose.yaml")
        for text in re.findall(r"subnet: (\S+)", path.read_text())
    ]
    assert len(subnets) >= 2
    assert not [(one, other) for one in subnets for other in subnets if one is not other and one.overlaps(other)]


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("compose.yaml")), ids=lambda path: path.parent.name)
def test_addresses_that_are_given_are_not_handed_out_to_others(path: Path) -> None:
    whole = load(path)
    for name, network in whole["networks"].items():
        on_it = [each["networks"] for each in whole["services"].values() if name in each["networks"]]
        given = [networks[name]["ipv4_address"] for networks in on_it if isinstance(networks, dict)]
        assert len(set(given)) == len(given) > 0
        [config] = network["ipam"]["config"]
        # Docker hands out from the lowest one on, in the order of starting, unless it is told from where.
        if len(given) < len(on_it):
            handed_out = ipaddress.IPv4Network(config["ip_range"])
            assert handed_out.subnet_of(ipaddress.IPv4Network(config["subnet"]))
            assert not [address for address in given if ipaddress.IPv4Address(address) in handed_out]


@pytest.mark.parametrize("shop", ["bakery", "mealbox"])
def test_postgres_is_ready_when_others_can_reach_it(shop: str) -> None:
    asked = load(DEPLOY / shop / "compose.yaml")["services"]["postgres"]["healthcheck"]["test"]
    assert asked[:4] == ["CMD", "pg_isready", "--host", "127.0.0.1"]


def test_nginx_outlives_the_coffee_bar_and_knows_baristas_by_their_own_addresses() -> None:
    services = load(DEPLOY / "compose.yaml")["services"]
    assert services["coffee"]["depends_on"] == ["nginx"]
    assert "depends_on" not in services["nginx"]
    assert all(port.startswith("0.0.0.0:") for port in services["nginx"]["ports"])


def test_files_that_are_mounted_are_there_and_images_are_exact() -> None:
    whole = compose(**GIVEN)
    for name, each in whole["services"].items():
        assert name == "bakery" or EXACT_IMAGE.fullmatch(each["image"]), each["image"]
        for volume in each.get("volumes", []):
            here, _, *mode = volume.split(":")
            assert (BAKERY / here).is_file() if here.startswith(".") else here in whole["volumes"]
            assert mode == ["ro"] or not here.startswith(".")
    build = whole["services"]["bakery"]["build"]
    assert (BAKERY / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Dockerfile"


def stand_in_for_docker(folder: Path) -> Path:
    """A `docker` that writes down what it is asked; postgres is said to run."""
    program = folder / "bin" / "docker"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$@" >> "$0.log"\ncase "$*" in *--quiet*|*pg_dump*) echo something;; esac\n')
    program.chmod(0o755)
    return program


def test_an_update_dumps_the_database_then_starts_the_image_and_remembers_it(tmp_path: Path) -> None:
    docker = stand_in_for_docker(tmp_path)
    (tmp_path / "update").write_bytes((BAKERY / "update").read_bytes())
    (tmp_path / ".env").write_text("DOMAIN=cakes.example\nORDERUP_IMAGE=old\n")
    subprocess.run(
        ["sh", tmp_path / "update", "new@sha256:1"],
        check=True,
        timeout=PATIENCE_SECONDS,
        env={"PATH": f"{docker.parent}:{os.environ['PATH']}"},
    )
    assert (tmp_path / ".env").read_text() == "DOMAIN=cakes.example\nORDERUP_IMAGE=new@sha256:1\n"
    assert [path.read_text() for path in (tmp_path / "backups").iterdir()] == ["something\n"]
    asked = (docker.parent / "docker.log").read_text().splitlines()
    words = ["pull new@sha256:1", "compose ps", "pg_dump", "compose up", "compose up", "caddy reload"]
    assert len(asked) == len(words)
    assert all(word in line for word, line in zip(words, asked, strict=True))
    # The bakery is made anew without Caddy, who lets requests wait until it is ready; then whatever else has changed.
    bakery, rest = (line.split() for line in asked if "compose up" in line)
    assert bakery[-1] == "bakery"
    assert "--no-deps" not in bakery
    assert {"--wait", "--remove-orphans"} <= set(bakery)
    assert "--wait" in rest
    assert "bakery" not in rest


def test_an_update_without_an_image_changes_nothing(tmp_path: Path) -> None:
    docker = stand_in_for_docker(tmp_path)
    (tmp_path / "update").write_bytes((BAKERY / "update").read_bytes())
    environment = {"PATH": f"{docker.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", tmp_path / "update"],
        check=False,
        timeout=PATIENCE_SECONDS,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode != 0
    assert "which image?" in done.stderr
    assert not (docker.parent / "docker.log").exists()
