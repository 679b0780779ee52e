"""deploy/terraform: it can be read, says everything once, and the machine gets the files of deploy/bakery."""

import base64
import re
from functools import cache
from typing import Any

import hcl2
import yaml  # type: ignore[import-untyped]  # brings no types

from tests.deploy.files import BAKERY, TERRAFORM, compose

SOURCES = sorted(TERRAFORM.glob("*.tf"))
LARGEST_USER_DATA = 32 << 10
FOR = re.compile(r"%\{ for name, file in files ~\}\n(.*?)%\{ endfor ~\}\n", re.DOTALL)


@cache
def parsed() -> list[Any]:
    return [hcl2.loads(path.read_text()) for path in SOURCES]


def blocks(kind: str) -> dict[str, Any]:
    """Every variable or output by its name, from all the files."""
    found = [item for file in parsed() for block in file.get(kind, []) for item in block.items()]
    named = [(name.strip('"'), body) for name, body in found if name != "__is_block__"]
    assert len(dict(named)) == len(named), "one stands twice"
    return dict(named)


def resource(type: str) -> Any:
    [found] = [each[f'"{type}"'] for file in parsed() for each in file.get("resource", []) if f'"{type}"' in each]
    return found['"bakery"']


def text() -> str:
    return "\n".join(path.read_text() for path in SOURCES)


def files_for_the_machine() -> dict[str, dict[str, str]]:
    """As main.tf hands them to the template."""
    settings = "DOMAIN=cakes.example\nACME_EMAIL=ann@cakes.example\nSANDBOX=\nORDERUP_IMAGE=image@sha256:1\n"
    listed = re.findall(r'"([\w.-]+)"\s*=\s*\{ content = (\w+)\((.*?)\), mode = "(\d+)" \}', text())
    assert len(listed) == 5
    contents = {}
    for name, how, what, mode in listed:
        assert (how, what) in {("filebase64", f'"${{local.files}}/{name}"'), ("base64encode", "local.settings")}
        raw = (BAKERY / name).read_bytes() if how == "filebase64" else settings.encode()
        contents[name] = {"content": base64.b64encode(raw).decode(), "mode": mode}
    return contents


def user_data() -> str:
    files = files_for_the_machine()

    def each(found: re.Match[str]) -> str:
        return "".join(
            found[1]
            .replace("${name}", name)
            .replace("${file.content}", file["content"])
            .replace("${file.mode}", file["mode"])
            for name, file in files.items()
        )

    template = (TERRAFORM / "cloud-init.yaml.tftpl").read_text()
    filled_in = FOR.sub(each, template).replace("${jsonencode(ssh_public_key)}", '"ssh-ed25519 AAAA ann"')
    assert "${" not in filled_in
    return filled_in


def test_every_variable_that_is_used_is_declared_with_a_sentence_and_the_other_way_round() -> None:
    declared = blocks("variable")
    assert set(re.findall(r"\bvar\.(\w+)", text())) == declared.keys()
    assert [name for name, body in declared.items() if not body.get("description") or not body.get("type")] == []
    assert [name for name, body in blocks("output").items() if not body.get("description")] == []


def test_every_local_that_is_used_is_there_and_the_other_way_round() -> None:
    [body] = [block for file in parsed() for block in file.get("locals", [])]
    assert set(re.findall(r"\blocal\.(\w+)", text())) == {name for name in body if not name.startswith("__")}


def test_every_resource_that_is_named_is_there() -> None:
    named = set(re.findall(r"\b(hcloud_\w+)\.(\w+)\.\w+", text()))
    there = set(re.findall(r'^resource "(\w+)" "(\w+)"', text(), re.MULTILINE))
    assert named <= there
    assert len(there) == 3


def test_the_example_answers_every_question_that_has_no_default() -> None:
    example = hcl2.loads((TERRAFORM / "terraform.tfvars.example").read_text())
    asked = {name for name, body in blocks("variable").items() if "default" not in body}
    assert {name for name in example if not name.startswith("__")} == asked


def test_neither_state_nor_secrets_can_be_committed() -> None:
    assert {"*.tfstate", "*.tfvars", ".terraform/"} <= set((TERRAFORM / ".gitignore").read_text().splitlines())
    assert not re.search(r"(?i)(token|password|secret)\w*\s*=", text())


def test_the_provider_is_exact() -> None:
    [version] = re.findall(r'^ +version = "([^"]+)"', text(), re.MULTILINE)
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)


def test_the_ports_that_are_let_in_are_those_that_compose_opens_and_ssh() -> None:
    rules = resource("hcloud_firewall")["rule"]
    let_in = {(rule["protocol"].strip('"'), rule.get("port", '""').strip('"')) for rule in rules}
    opened = compose(DOMAIN="cakes.example", ACME_EMAIL="a@cakes.example")["services"]["caddy"]["ports"]
    wanted = set()
    for port in opened:
        number, _, protocol = port.partition(":")[2].partition("/")
        wanted.add((protocol or "tcp", number))
    assert let_in == wanted | {("tcp", "22"), ("icmp", "")}


def test_the_machine_gets_the_files_of_the_bakery_and_starts_it() -> None:
    data = yaml.safe_load(user_data())
    assert user_data().startswith("#cloud-config\n")
    written = {each["path"]: each for each in data["write_files"]}
    for name in ("compose.yaml", "Caddyfile", "make-secrets", "update"):
        there = written[f"/srv/bakery/{name}"]
        assert base64.b64decode(there["content"]) == (BAKERY / name).read_bytes()
        executable = bool(int(there["permissions"], 8) & 0o100)
        assert executable == bool((BAKERY / name).stat().st_mode & 0o100)
    settings = written["/srv/bakery/.env"]
    assert settings["permissions"] == "0600"
    commands = [" ".join(command) for command in data["runcmd"]]
    assert [
        next(i for i, each in enumerate(commands) if word in each) for word in ("usermod", "make-secrets", " up ")
    ] == [
        0,
        2,
        3,
    ]


def test_the_machine_is_told_no_more_than_it_may_be() -> None:
    assert len(user_data().encode()) < LARGEST_USER_DATA


def test_the_settings_of_the_machine_are_those_that_compose_asks_for() -> None:
    [settings] = re.findall(r"settings\s*= <<-EOT\n(.*?)EOT", text(), re.DOTALL)
    named = re.findall(r"^ *([A-Z_]+)=", settings, re.MULTILINE)
    example = re.findall(r"^([A-Z_]+)=", (BAKERY / "env.example").read_text(), re.MULTILINE)
    assert {"DOMAIN", "ACME_EMAIL"} <= set(named) <= set(example)
