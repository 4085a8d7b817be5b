"""The manifests: valid for Kubernetes, harmless for a cluster, and one with docker-compose.yml."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.kubernetes.rendering import (
    COMBINATIONS,
    MANIFESTS,
    Document,
    built,
    container,
    containers,
    one,
    pods,
    rendered,
)
from tests.pages import Page
from tools.repository import ROOT
from tools.serve.launch import STOP_SECONDS, Options

# preStop's sleep, and matchLabelKeys of a spread, are on by default since the first of these.
RELEASES = ("1.30", "1.37")
CUSTOM = yaml.safe_load((Path(__file__).parent / "custom_resources.yaml").read_text())
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
RULE = MANIFESTS / "components" / "monitoring" / "prometheusrule.yaml"

each_combination = pytest.mark.parametrize("name", COMBINATIONS)


def as_known(document: Document) -> Iterator[Document]:
    """What of a document Kubernetes' own schemas describe: all of it, or parts of a custom resource."""
    kind, name = document["kind"], {"name": document["metadata"]["name"]}
    if kind not in CUSTOM:
        yield document
    elif kind == "ServingRuntime":
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": name, "spec": pod_of_runtime(document)}
    elif kind == "ScaledObject":
        spec = document["spec"]
        target = {**spec["scaleTargetRef"], "kind": "Deployment"}
        scaling = {"scaleTargetRef": target, "maxReplicas": 1, **spec["advanced"]["horizontalPodAutoscalerConfig"]}
        yield {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": name, "spec": scaling}


def pod_of_runtime(runtime: Document) -> dict[str, Any]:
    return {part: runtime["spec"][part] for part in ("containers", "volumes")}


@each_combination
def test_every_document_is_valid_in_the_oldest_and_the_newest_release(name: str) -> None:
    for document in rendered(name):
        if schema := CUSTOM.get(document["kind"]):
            assert set(document) == {"apiVersion", "kind", "metadata", "spec"}
            jsonschema.validate(document["spec"], schema)
        for part in as_known(document):
            for release in RELEASES:
                kubernetes_validate.validate(dict(part), release, strict=True)


def test_a_misspelt_field_is_found() -> None:
    deployment = dict(one(rendered("cpu"), "Deployment", "triton"))
    deployment["spec"] = {**deployment["spec"], "replica": 2}
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate(deployment, RELEASES[-1], strict=True)
    scaled = one(rendered("cpu, image, all"), "ScaledObject", "triton")
    with pytest.raises(jsonschema.ValidationError, match="minReplicas"):
        jsonschema.validate({**scaled["spec"], "minReplicas": 2}, CUSTOM["ScaledObject"])


@each_combination
def test_no_container_has_more_rights_than_it_needs(name: str) -> None:
    found = list(pods(rendered(name)))
    assert found
    for _, pod in found:
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert not [volume for volume in pod["volumes"] if "hostPath" in volume]
        for each in containers(pod):
            own = {**pod.get("securityContext", {}), **each["securityContext"]}
            assert own["runAsNonRoot"] is True and own["runAsUser"] > 0
            assert own["seccompProfile"] == {"type": "RuntimeDefault"}
            assert own["readOnlyRootFilesystem"] is True and own["allowPrivilegeEscalation"] is False
            assert own["capabilities"] == {"drop": ["ALL"]} and "privileged" not in own


@each_combination
def test_every_container_has_limits_and_every_server_probes_and_a_way_to_drain(name: str) -> None:
    for _, pod in pods(rendered(name)):
        for each in containers(pod):
            own = each["resources"]
            assert {"cpu", "memory"} == own["requests"].keys() and own["requests"].items() <= own["limits"].items()
            assert re.fullmatch(r"[a-z/-]+:[0-9][\w.-]*", each["image"]), each["image"]
        for each in pod["containers"]:
            assert {"readinessProbe", "livenessProbe"} <= each.keys()
            assert each["lifecycle"]["preStop"]["sleep"]["seconds"] < pod["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("name", [name for name in COMBINATIONS if name != "kserve"])
def test_nobody_has_rights_and_what_is_not_listed_is_closed(name: str) -> None:
    documents = rendered(name)
    assert not {each["kind"] for each in documents} & {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}
    labels = {each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"] for each in deployments(name)}
    closed = one(documents, "NetworkPolicy", "closed")["spec"]
    assert closed["policyTypes"] == ["Ingress", "Egress"] and not {"ingress", "egress"} & closed.keys()
    for own in labels.values():
        assert closed["podSelector"]["matchLabels"].items() <= own.items()
    # Triton itself reaches nobody, unless its models come from S3.
    outward = [each for each in documents if each["kind"] == "NetworkPolicy" and each["spec"].get("egress")]
    reaching = [
        each for each in outward if each["spec"]["podSelector"]["matchLabels"].items() <= labels["triton"].items()
    ]
    assert [each["metadata"]["name"] for each in reaching] == (["s3"] if "s3" in name else [])


def test_names_and_the_credentials_of_a_bucket_can_be_asked_for_wherever_a_cluster_has_them() -> None:
    documents = rendered("gpu, s3, all")
    front, s3 = (one(documents, "NetworkPolicy", name)["spec"]["egress"] for name in ("front", "s3"))
    for rules in (front, s3):
        # A cache on each node is no pod, and other namespaces than kube-system have name servers.
        assert {port["port"] for rule in rules if "to" not in rule for port in rule["ports"]} >= {53, 5353}
    blocks = [block["ipBlock"]["cidr"] for rule in s3 for block in rule.get("to", ())]
    assert blocks == ["169.254.169.254/32", "169.254.170.23/32"]


@each_combination
def test_ports_that_services_monitors_and_policies_name_are_there(name: str) -> None:
    documents = rendered(name)
    listening = {port["containerPort"]: port["name"] for _, pod in pods(documents) for port in ports_of(pod)}
    services = {port["name"]: port["port"] for each in documents if each["kind"] == "Service" for port in ports(each)}
    assert {number: listening[number] for number in services.values()} == {n: name for name, n in services.items()}
    # The supervisor's are of our image alone.
    optional = set() if "cpu" in name else {"supervisor", 8003, 8005}
    for each in documents:
        if each["kind"] == "ServiceMonitor":
            assert {endpoint["port"] for endpoint in each["spec"]["endpoints"]} - optional <= services.keys()
        if each["kind"] == "NetworkPolicy":
            rules = [*each["spec"].get("ingress", ()), *each["spec"].get("egress", ())]
            named = {port["port"] for rule in rules for port in rule["ports"]} - {53, 80, 443, 5353}
            assert named - optional <= listening.keys()


def ports(service: Document) -> list[dict[str, Any]]:
    return list(service["spec"]["ports"])


def ports_of(pod: Document) -> list[dict[str, Any]]:
    return [port for each in pod["containers"] for port in each["ports"]]


def deployments(name: str) -> list[Document]:
    return [each for each in rendered(name) if each["kind"] == "Deployment"]


def test_images_are_those_of_compose() -> None:
    defaults = {
        service: re.sub(r"\$\{\w+:-(.*)\}", r"\1", COMPOSE[service]["image"])
        for service in ("triton", "triton-gpu", "front")
    }
    used = {each["image"] for name in COMBINATIONS for _, pod in pods(rendered(name)) for each in containers(pod)}
    dockerfile = (ROOT / "deploy" / "docker" / "models.Dockerfile").read_text()
    (models,) = re.findall(r"--tag (\S+)", dockerfile)
    assert used == {*defaults.values(), models}


def test_servers_are_started_as_in_compose() -> None:
    def flags(words: list[str]) -> set[str]:
        assert words[:3] == ["python", "-m", "tools.serve"]
        return set(re.findall(r"--\S+(?: [^-]\S*)?", " ".join(words[3:]).replace("=", " ")))

    own = flags(container(rendered("cpu"), "triton", "triton")["args"])
    composed = flags(COMPOSE["triton"]["command"])
    assert composed - own == {"--replicas 2", "--otlp ${OTLP:-}"}
    assert own - composed == {"--repository /models", "--public-key /keys/public.pem"}

    for name in ("cpu", "kserve"):
        assert dict(pods(rendered(name)))["triton"]["shareProcessNamespace"] is COMPOSE["triton"]["init"]

    def script(words: list[str]) -> list[str]:
        lines = [line.strip().replace("$$", "$") for line in words[2].splitlines()]
        return [line.replace(" ${OTLP:+$otlp}", "") for line in lines if not re.match(r"#|otlp=|--trace", line)]

    gpu = container(rendered("gpu"), "triton", "triton")
    assert script(gpu["args"]) == script(COMPOSE["triton-gpu"]["command"])
    front = container(rendered("cpu"), "front", "front")
    assert (front["args"], front["workingDir"]) == (COMPOSE["front"]["command"], COMPOSE["front"]["working_dir"])
    written = (ROOT / "deploy" / "docker" / "build-models.sh").read_text()
    config = container(rendered("cpu"), "front", "config")["command"][-1]
    for option in ("--front", "--operator"):
        assert re.findall(rf"{option} (\S+)", config) == re.findall(rf"{option} (\S+)", written)


def test_what_is_asked_of_a_server_is_what_compose_asks() -> None:
    ready = container(rendered("cpu"), "triton", "triton")["readinessProbe"]["httpGet"]["path"]
    *_, script = COMPOSE["triton"]["healthcheck"]["test"]
    assert f'"GET", "{ready}"' in (ROOT / script).read_text()
    gpu = container(rendered("gpu"), "triton", "triton")["readinessProbe"]["httpGet"]["path"]
    assert COMPOSE["triton-gpu"]["healthcheck"]["test"][-1].endswith(gpu)


def test_kserve_runs_our_image_as_the_overlay_does() -> None:
    runtime, overlay = (
        container(rendered("kserve"), "triton", "kserve-container"),
        container(rendered("cpu"), "triton", "triton"),
    )
    numbers = {port["name"]: port["containerPort"] for port in overlay["ports"]}

    def plain(probe: Document) -> Document:
        asked = {**probe.get("httpGet", {})}
        return {**probe, "httpGet": {**asked, "port": numbers.get(asked.get("port", ""), asked.get("port"))}}

    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert plain(runtime[probe]) == plain(overlay[probe])
    for same in ("image", "resources", "lifecycle"):
        assert runtime[same] == overlay[same]
    assert [word.replace("/mnt", "") for word in runtime["args"]] == overlay["args"]


@pytest.mark.parametrize("name", ["cpu", "gpu", "kserve"])
def test_numbers_of_time_leave_room_for_what_they_wait_for(name: str) -> None:
    pod = dict(pods(rendered(name)))["triton"]
    (server,) = pod["containers"]
    drained = server["lifecycle"]["preStop"]["sleep"]["seconds"]
    # tritonserver's own default for what it still computes is 30 s; tools.serve gives it less.
    assert pod["terminationGracePeriodSeconds"] >= drained + max(30, STOP_SECONDS) + 5
    # The server gives up before Kubernetes does, and says why.
    startup = server["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] > Options().ready_timeout


def test_a_rollout_takes_no_replica_away_before_the_next_is_there() -> None:
    for each in deployments("cpu"):
        assert each["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    door = one(rendered("cpu"), "Deployment", "front")["spec"]["template"]["spec"]
    stop = re.search(r"hard-stop-after (\d+)s", (ROOT / "deploy" / "haproxy" / "haproxy.cfg.j2").read_text())
    assert stop and door["terminationGracePeriodSeconds"] >= 5 + int(stop[1]) + 5


def test_the_number_of_replicas_is_left_to_keda_and_the_door_finds_them_all() -> None:
    documents = rendered("cpu, image, all")
    scaled, triton = one(documents, "ScaledObject", "triton")["spec"], one(documents, "Deployment", "triton")["spec"]
    assert (
        "replicas" not in triton
        and scaled["minReplicaCount"] == one(rendered("cpu"), "Deployment", "triton")["spec"]["replicas"]
    )
    script = container(documents, "front", "config")["command"][-1]
    found = re.search(r"--addresses (\d+)", script)
    assert found and int(found[1]) > scaled["maxReplicaCount"] + triton["strategy"]["rollingUpdate"]["maxSurge"]


def test_the_alerts_are_those_of_compose() -> None:
    head = RULE.read_text().partition("  #")[0]
    body = re.sub(r"^(?=.)", "  ", ALERTS.read_text(), flags=re.MULTILINE)
    again = "(sed '/^spec:$/q' {0}; sed 's/^\\(.\\)/  \\1/' {1}) > new && mv new {0}"
    assert RULE.read_text() == head + body, "run: " + again.format(RULE.relative_to(ROOT), ALERTS.relative_to(ROOT))
    assert one(rendered("gpu, s3, all"), "PrometheusRule", "triton")["spec"] == yaml.safe_load(ALERTS.read_text())
    # Alerts speak of jobs, which the operator names after Services.
    jobs = {job["job_name"] for job in yaml.safe_load((ALERTS.parent / "prometheus.yml").read_text())["scrape_configs"]}
    assert jobs == {each["metadata"]["name"] for each in rendered("cpu") if each["kind"] == "Service"}


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed (apt install prometheus)")
def test_the_query_that_scales_gives_the_ratio_of_the_model_that_waits_longest(tmp_path: Path) -> None:
    (trigger,) = one(rendered("cpu, image, all"), "ScaledObject", "triton")["spec"]["triggers"]
    rule = {"record": "scaling", "expr": trigger["metadata"]["query"]}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "keda", "rules": [rule]}]}))
    cases = shutil.copy(Path(__file__).parent / "scaling.yml", tmp_path)
    result = subprocess.run(["promtool", "test", "rules", cases], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_example_of_the_page_is_built_and_its_choices_take_effect(tmp_path: Path) -> None:
    (example,) = Page(ROOT / "docs" / "kubernetes.md").blocks("yaml")
    shutil.copytree(MANIFESTS, tmp_path / "deploy" / "kubernetes")
    (tmp_path / "kustomization.yaml").write_text(example)
    documents = built(tmp_path)
    chosen = yaml.safe_load(example)
    assert {each["metadata"]["namespace"] for each in documents} == {chosen["namespace"]}
    images = {each["image"] for _, pod in pods(documents) for each in containers(pod)}
    assert {each["newName"] for each in chosen["images"]} <= {image.rpartition(":")[0] for image in images}
