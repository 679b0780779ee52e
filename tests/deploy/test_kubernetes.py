"""deploy/kubernetes: what Kubernetes' own schemas say, and whether the manifests fit each other and the program."""

import re
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]  # brings no types
import pytest

from orderup.settings import Settings
from tests.deploy.files import DEPLOY, EXACT_IMAGE, FOLDER_OF_SECRETS, KUBERNETES, VARIABLES, command_options, load

# Of programs other than Kubernetes, whose schemas are not in the package.
OTHERS = {"kustomization.yaml", "issuer.yaml"}
FILES = sorted(path.name for path in KUBERNETES.glob("*.yaml"))
SECRET_KEY = "a-key-of-thirty-two-characters-or-more"


def manifest(name: str) -> Any:
    return load(KUBERNETES / f"{name}.yaml")


def pod() -> Any:
    return manifest("deployment")["spec"]["template"]["spec"]


def serving() -> Any:
    [container] = pod()["containers"]
    return container


@pytest.mark.parametrize("name", [name for name in FILES if name not in OTHERS])
def test_it_keeps_to_the_schemas_of_kubernetes(name: str) -> None:
    kubernetes_validate.validate(load(KUBERNETES / name), kubernetes_validate.latest_version(), strict=True)


def test_all_of_them_are_applied_together() -> None:
    whole = manifest("kustomization")
    assert sorted([*whole["resources"], "kustomization.yaml"]) == FILES
    assert whole["namespace"] == manifest("namespace")["metadata"]["name"]
    [image] = whole["images"]
    assert {each["image"] for each in [*pod()["containers"], *pod()["initContainers"]]} == {image["name"]}
    assert EXACT_IMAGE.fullmatch(f"{image['newName']}:{image['newTag']}")


def test_no_manifest_holds_a_secret() -> None:
    assert [name for name in FILES if load(KUBERNETES / name)["kind"] == "Secret"] == []
    secret = {variable for variable in VARIABLES if re.search(r"TOKEN|PASSWORD|SECRET|KEY$", variable)}
    assert not secret & manifest("settings")["data"].keys()


def test_settings_are_ones_that_there_are_and_a_server_starts_with_them_and_the_secret() -> None:
    data = manifest("settings")["data"]
    assert data.keys() - VARIABLES == {FOLDER_OF_SECRETS}
    settings = Settings.from_environment({**data, FOLDER_OF_SECRETS: "", "SECRET_KEY": SECRET_KEY})
    hosts = [rule["host"] for rule in manifest("ingress")["spec"]["rules"]]
    assert [settings.public_url, settings.server_url] == [f"https://{host}" for host in hosts]
    # The image's own stands in the way of the one in the Secret.
    assert data["DATABASE_URL"] == ""
    assert "DATABASE_URL=" in (DEPLOY / "Dockerfile").read_text()


def test_the_secret_is_mounted_where_its_files_are_looked_for_by_whoever_serves_and_whoever_migrates() -> None:
    [secrets] = [each for each in pod()["volumes"] if "secret" in each]
    folder = manifest("settings")["data"][FOLDER_OF_SECRETS]
    for container in [*pod()["containers"], *pod()["initContainers"]]:
        mounted = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
        assert mounted[secrets["name"]] == folder
        assert container["envFrom"] == [{"configMapRef": {"name": manifest("settings")["metadata"]["name"]}}]
    # The group of the pod reads them, nobody else.
    assert secrets["secret"]["defaultMode"] == 0o440
    assert pod()["securityContext"]["fsGroup"] == pod()["securityContext"]["runAsGroup"]


def test_tables_are_migrated_before_anything_serves() -> None:
    [migrate] = pod()["initContainers"]
    assert migrate["args"] == ["migrate"]
    command_options(migrate["args"])
    assert manifest("deployment")["spec"]["strategy"] == {"type": "Recreate"}


def test_the_command_is_one_that_there_is_and_stopping_takes_longer_than_its_grace() -> None:
    options = command_options(serving()["args"])
    assert options["shops"] == ["bakery"]
    assert options["sandbox"] is False
    assert {options["front_host"], options["back_host"]} == {"0.0.0.0"}  # noqa: S104  in a container of its own
    ports = {each["name"]: each["containerPort"] for each in serving()["ports"]}
    assert ports == {"front": options["front_port"], "back": options["back_port"]}
    sleeps = serving()["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod()["terminationGracePeriodSeconds"] > sleeps + options["grace"] + 10


def test_it_is_started_anew_if_it_does_not_live_and_left_out_if_it_is_not_ready() -> None:
    container = serving()
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startup": "/healthz",
        "liveness": "/healthz",
        "readiness": "/readyz",
    }
    assert {probe["port"] for probe in probes.values()} <= {each["name"] for each in container["ports"]}


def test_nobody_is_root_or_writes_to_the_image() -> None:
    together = pod()["securityContext"]
    assert together["runAsNonRoot"] is True
    [user] = re.findall(r"useradd --uid (\d+)", (DEPLOY / "Dockerfile").read_text())
    assert together["runAsUser"] == int(user)
    assert together["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [*pod()["containers"], *pod()["initContainers"]]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"requests", "limits"} == container["resources"].keys()


def test_service_ingress_budget_and_policy_lead_to_the_pods() -> None:
    labels = manifest("deployment")["spec"]["template"]["metadata"]["labels"]
    service, policy = manifest("service"), manifest("network")["spec"]
    budget = manifest("disruption")["spec"]
    selectors = [
        manifest("deployment")["spec"]["selector"]["matchLabels"],
        service["spec"]["selector"],
        budget["selector"]["matchLabels"],
        policy["podSelector"]["matchLabels"],
    ]
    assert all(selector and selector.items() <= labels.items() for selector in selectors)
    assert budget["minAvailable"] < manifest("deployment")["spec"]["replicas"]
    named = {each["name"] for each in serving()["ports"]}
    assert {each["targetPort"] for each in service["spec"]["ports"]} == named
    assert {each["port"] for rule in policy["ingress"] for each in rule["ports"]} == named
    ingress = manifest("ingress")["spec"]
    backends = [path["backend"]["service"] for rule in ingress["rules"] for path in rule["http"]["paths"]]
    assert {each["name"] for each in backends} == {service["metadata"]["name"]}
    assert [each["port"]["name"] for each in backends] == ["front", "back"]


def test_certificates_are_for_the_names_that_are_served_and_come_from_the_issuer() -> None:
    ingress, issuer = manifest("ingress"), manifest("issuer")
    hosts = [rule["host"] for rule in ingress["spec"]["rules"]]
    assert [host for each in ingress["spec"]["tls"] for host in each["hosts"]] == hosts
    assert ingress["metadata"]["annotations"]["cert-manager.io/issuer"] == issuer["metadata"]["name"]
    [solver] = issuer["spec"]["acme"]["solvers"]
    assert solver["http01"]["ingress"]["ingressClassName"] == ingress["spec"]["ingressClassName"]
