""".github: the pipeline keeps to its schema, its actions are exact, and what it runs is there."""

import re
import stat
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.deploy.files import BAKERY, DEPLOY, EXACT_IMAGE, KUBERNETES, WORKFLOW, check, load
from tests.services.lookup import SERVICES
from tests.services.waiting import PATIENCE_SECONDS
from tests.serving import ROOT

EXACT_ACTION = re.compile(r"^ +(?:- )?uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", re.MULTILINE)
RULES = """
extends: default
rules:
  line-length: {max: 180}
  document-start: disable
  # "on" of GitHub's workflows
  truthy: {check-keys: false}
  comments: {min-spaces-from-content: 1}
"""


def jobs() -> Any:
    return load(WORKFLOW)["jobs"]


def steps() -> list[Any]:
    return [step for job in jobs().values() for step in job["steps"]]


def test_it_keeps_to_the_schema_of_workflows() -> None:
    check("check-jsonschema", "--builtin-schema", "vendor.github-workflows", WORKFLOW)
    check("check-jsonschema", "--builtin-schema", "vendor.dependabot", WORKFLOW.parents[1] / "dependabot.yml")


def test_an_auditor_of_workflows_finds_nothing() -> None:
    check("zizmor", "--offline", "--no-progress", WORKFLOW.parents[1])


def test_all_that_is_yaml_is_well_formed() -> None:
    check("yamllint", "--strict", "-d", RULES, WORKFLOW.parents[1], BAKERY, KUBERNETES)


def test_every_action_is_named_by_a_commit_and_every_image_by_an_exact_version() -> None:
    used = [step["uses"] for step in steps() if "uses" in step]
    assert len(EXACT_ACTION.findall(WORKFLOW.read_text())) == len(used) > 0
    versions = dict(re.findall(r"uses: (\S+) # (\S+)", WORKFLOW.read_text()))
    assert len({action.partition("@")[0] for action in versions}) == len(versions), "one action at two commits"
    images = [job["container"]["image"] for job in jobs().values() if "container" in job]
    images += [service["image"] for job in jobs().values() for service in job.get("services", {}).values()]
    assert [image for image in images if not EXACT_IMAGE.fullmatch(image)] == []


def test_nothing_goes_out_before_lint_and_tests_have_passed() -> None:
    needs = {name: job.get("needs", []) for name, job in jobs().items()}
    assert needs == {
        "lint": [],
        "test": [],
        "image": ["lint", "test"],
        "deploy": ["image"],
        "tell": ["lint", "test", "image", "deploy"],
    }
    assert "refs/heads/main" in jobs()["deploy"]["if"]
    assert "failure()" in jobs()["tell"]["if"]


def test_it_runs_what_has_to_pass_before_a_change_is_taken_in() -> None:
    targets = re.findall(r"exec make (.+)$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)[0].split()
    assert [f"make {target}" for target in targets] == [jobs()[name]["steps"][-1]["run"] for name in ("lint", "test")]
    assert all(re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE) for target in targets)


def test_tests_find_the_servers_that_the_pipeline_starts_and_fail_without_any() -> None:
    job = jobs()["test"]
    environment = dict(job["env"])
    assert environment.pop("ORDERUP_REQUIRE_SERVICES") == "1"
    assert environment.keys() <= {service.variable for service in SERVICES.values()}
    assert {urlsplit(url).hostname for url in environment.values()} == job["services"].keys()


def test_permissions_are_the_least() -> None:
    assert load(WORKFLOW)["permissions"] == {}
    written = {name: job["permissions"] for name, job in jobs().items()}
    assert {name for name, each in written.items() if "write" in each.values()} == {"image"}
    secrets = {name for name, job in jobs().items() if "secrets." in str(job)}
    assert secrets == {"deploy", "tell"}
    checkouts = [step for step in steps() if step.get("uses", "").startswith("actions/checkout@")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_files_that_it_uses_are_there_and_a_deployment_brings_all_that_compose_mounts() -> None:
    [build] = [step["with"] for step in jobs()["image"]["steps"] if step.get("id") == "build"]
    assert (ROOT / build["file"]) == DEPLOY / "Dockerfile"
    [script] = [step["run"] for step in jobs()["deploy"]["steps"] if "scp" in step.get("run", "")]
    brought = set(re.findall(r"^scp (.+) server:", script, re.MULTILINE)[0].split())
    assert all((BAKERY / name).is_file() for name in brought)
    mounted = set(re.findall(r"^ +- \./([\w.-]+):", (BAKERY / "compose.yaml").read_text(), re.MULTILINE))
    assert mounted | {"compose.yaml"} <= brought
    run = set(re.findall(r"\./([\w-]+)", script))
    assert run == {"make-secrets", "update"} <= brought
    assert all((BAKERY / name).stat().st_mode & stat.S_IXUSR for name in run)


@pytest.mark.parametrize("name", ["make-secrets", "update"])
def test_scripts_can_be_read_by_a_plain_shell(name: str) -> None:
    subprocess.run(["sh", "-n", BAKERY / name], check=True, timeout=PATIENCE_SECONDS)


def test_scripts_of_the_deployment_can_be_read_by_the_shell_that_runs_them(tmp_path: Path) -> None:
    for number, step in enumerate(step for step in steps() if "run" in step):
        script = tmp_path / f"{number}.sh"
        script.write_text(step["run"])
        assert "${{" not in step["run"], "what others write would be run as a part of the script"
        subprocess.run(["bash", "-n", script], check=True, timeout=PATIENCE_SECONDS)
