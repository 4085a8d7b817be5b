"""docker-compose.yml, brought up for real from a fresh checkout on whatever Docker Engine DOCKER_HOST names.

    make test-compose
    make test-compose PYTHON_IMAGE=python:3.11-slim TORCH_INDEX=    # another base image, torch from pip's own index

It is no part of `make test`: it builds an image and trains. It takes its own project name and free ports, so that it
never meets a stack that runs already, and it works on a copy of the checkout. Where the images of HAProxy and
Prometheus cannot be pulled, Debian's packages of them take their place (standin.Dockerfile). Another service whose
image can neither be found nor pulled is left out, and the tests of that service are skipped with Docker's own reason.
"""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from clients.client import Client
from clients.connection import Connection, Protocol, Tls
from clients.errors import ClientError, RequestRejected
from loadtest.payloads import inputs
from tests.browser import NEEDS_CHROMIUM, card, chromium, draw, share, visit
from tests.conftest import Command
from tools import recipes
from tools.repository import ROOT

# The image is built and the models are trained: minutes, on a slow line many.
pytestmark = pytest.mark.timeout(3600)

MODELS = tuple(model for model in recipes.names() if recipes.load(model).default)
OURS = ("build", "triton", "locust", "router")
PULLED = ("front", "prometheus", "grafana")
STOOD_IN = {"front": "HAPROXY_IMAGE", "prometheus": "PROMETHEUS_IMAGE"}
PROFILES = ("cpu", "gpu", "cpu,locust", "gpu,locust", "cpu,router", "gpu,router", "cpu,tracing")
ALL = "cpu,gpu,locust,router,tracing"
PORTS = (
    "HTTP_PORT",
    "GRPC_PORT",
    "METRICS_PORT",
    "STATUS_PORT",
    "FRONT_PORT",
    "OPERATOR_PORT",
    "PROMETHEUS_PORT",
    "GRAFANA_PORT",
    "JAEGER_PORT",
    "OTLP_PORT",
    "LOCUST_PORT",
    "ROUTER_PORT",
    "ROUTER_GRPC_PORT",
    "ROUTER_CONTROL_PORT",
)
DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboards/triton.json").read_text())
QUERIES = {
    f"{panel['title']}, {target['legendFormat']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
}
FIRST_TRITON = "$(grep -lx tritonserver /proc/[0-9]*/comm | head -n 1 | cut -d/ -f3)"
Finished = subprocess.CompletedProcess[str]


def run(*command: str, check: bool = True, cwd: Path = ROOT, variables: Mapping[str, str] | None = None) -> Finished:
    """A command to its end; its output is the message when it must succeed and does not."""
    # The variables of a `make` that runs the tests are not those of a `make` that is tested.
    inherited = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKEOVERRIDES", "ARGS")
    }
    env = {**inherited, **(variables or {})}
    result = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    if check and result.returncode:
        pytest.fail(f"{shlex.join(command)} failed:\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}", pytrace=False)
    return result


def eventually(probe: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """What `probe` returns once it is something; errors of connections that are not there yet count as nothing."""
    deadline, last = time.monotonic() + seconds, "nothing"
    while time.monotonic() < deadline:
        try:
            if found := probe():
                return found
        except (OSError, ClientError) as error:
            last = str(error)
        time.sleep(1)
    pytest.fail(f"{what} did not come within {seconds:g} s; last: {last}", pytrace=False)


def fetch(port: int, path: str) -> bytes:
    """The body at a path of a published port."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return bytes(answer.read())


def free_ports() -> dict[str, str]:
    """A free port for each variable, held together while they are chosen so that they differ."""
    with ExitStack() as held:
        holders = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in PORTS]
        return {name: str(holder.getsockname()[1]) for name, holder in zip(PORTS, holders, strict=True)}


def compose_command() -> str:
    """What `make` found, or what is installed."""
    found = run("docker", "compose", "version", check=False).returncode == 0
    return os.environ.get("COMPOSE") or ("docker compose" if found else "docker-compose")


def checkout(folder: Path, user: int) -> Path:
    """What a clone of this working tree would hold, owned by a user: the files that git tracks, and no built model."""
    listed = run("git", "ls-files", "-z").stdout.split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    if os.getuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, user, user)
    return folder


@dataclass
class Stack:
    """One compose project on a checkout of its own."""

    folder: Path
    user: int
    project: str
    ports: dict[str, str]
    left_out: dict[str, str] = field(default_factory=dict)  # service → why its image cannot be had
    images: dict[str, str] = field(default_factory=dict)  # variable → an image in place of one that cannot be had

    def variables(self, profiles: str) -> dict[str, str]:
        owner = {"PUID": str(self.user), "PGID": str(self.user)}
        return {
            "COMPOSE_PROJECT_NAME": self.project,
            "COMPOSE_PROFILES": profiles,
            **owner,
            **self.ports,
            **self.images,
        }

    def compose(self, *arguments: str, profiles: str = "cpu,locust", check: bool = True, **variables: str) -> Finished:
        command = (*shlex.split(compose_command()), *arguments)
        return run(*command, check=check, cwd=self.folder, variables={**self.variables(profiles), **variables})

    def make(self, *arguments: str) -> Finished:
        return run("make", f"COMPOSE={compose_command()}", *arguments, cwd=self.folder, variables=self.variables("cpu"))

    def port(self, name: str) -> int:
        return int(self.ports[f"{name}_PORT"])

    def container(self, service: str) -> str:
        """Id of a service's only container; the test is skipped when the service had to be left out."""
        if service in self.left_out:
            pytest.skip(self.left_out[service])
        labels = (f"com.docker.compose.project={self.project}", f"com.docker.compose.service={service}")
        filters = [part for label in labels for part in ("--filter", f"label={label}")]
        (container,) = run("docker", "ps", "--all", "--quiet", *filters).stdout.split()
        return container

    def inspect(self, service: str) -> dict[str, Any]:
        (facts,) = json.loads(run("docker", "inspect", self.container(service)).stdout)
        return dict(facts)

    def health(self, service: str) -> str:
        return str(self.inspect(service)["State"]["Health"]["Status"])

    def execute(self, service: str, *command: str, check: bool = True) -> Finished:
        return run("docker", "exec", self.container(service), *command, check=check)

    def client(self, protocol: Protocol, port: str = "") -> Client:
        return Client(Connection(protocol, f"127.0.0.1:{self.port(port or protocol.upper())}"))

    def left(self, project: str) -> str:
        """Containers, networks and volumes of a project, one a line."""
        label = f"label=com.docker.compose.project={project}"
        kinds = (("ps", "--all"), ("network", "ls"), ("volume", "ls"))
        return "".join(run("docker", *kind, "--quiet", "--filter", label).stdout for kind in kinds)


def image_of(stack: Stack, service: str) -> str:
    """The image that a service names, variables filled in."""
    config = stack.compose("config").stdout
    found = re.search(rf"^  {service}:\n(?:    .*\n)*?    image: (\S+)", config, re.MULTILINE)
    assert found, f"docker-compose.yml has no service {service} with an image"
    return found[1]


def why_unavailable(image: str) -> str | None:
    """Docker's reason why an image can neither be found here nor pulled."""
    if run("docker", "image", "inspect", image, check=False).returncode == 0:
        return None
    pulled = run("docker", "pull", "--quiet", image, check=False)
    return f"{image} cannot be pulled: {pulled.stderr.strip()}" if pulled.returncode else None


def stand_in(service: str) -> str:
    """An image of our own with a service's program."""
    folder, base = Path(__file__).parent, os.environ.get("PYTHON_IMAGE", "python:3.11.14-slim-bookworm")
    name = f"triton-test-{service}"
    recipe = ("--file", str(folder / "standin.Dockerfile"), "--target", service, "--build-arg", f"BASE={base}")
    run("docker", "build", "--quiet", *recipe, "--tag", name, str(folder))
    return name


@pytest.fixture(scope="session")
def engine() -> dict[str, Any]:
    """Facts about the Docker Engine."""
    result = run("docker", "info", "--format", "{{json .}}", check=False)
    facts = json.loads(result.stdout) if result.returncode == 0 else {}
    if not facts.get("ServerVersion"):
        pytest.exit(f"no Docker Engine answers; start one, or set DOCKER_HOST: {result.stderr.strip()}", returncode=2)
    return dict(facts)


@pytest.fixture(scope="session")
def user(engine: dict[str, Any]) -> int:
    """Whom the files belong to: whoever runs the tests, and not root where root runs them."""
    if "name=rootless" in engine["SecurityOptions"]:
        return 0  # A rootless engine's root is the user who runs it.
    return os.getuid() or 1000


@pytest.fixture(scope="session")
def stack(user: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The default stack by `make up`, healthy; taken down with its volumes at the end, however the tests ended."""
    folder = checkout(tmp_path_factory.mktemp("checkout"), user)
    made = Stack(folder, user, f"triton-test-{os.getpid()}", free_ports())
    reasons = {service: why_unavailable(image_of(made, service)) for service in PULLED}
    missing = {service: reason for service, reason in reasons.items() if reason}
    made.images = {STOOD_IN[service]: stand_in(service) for service in missing if service in STOOD_IN}
    made.left_out = {service: reason for service, reason in missing.items() if service not in STOOD_IN}
    wanted = ["triton", *(service for service in PULLED if service not in made.left_out)]
    try:
        made.make("up", f"ARGS={' '.join(wanted)}")
        await_health(made)
        yield made
    finally:
        made.compose("down", "--volumes", "--remove-orphans", profiles=ALL, check=False)


def await_health(stack: Stack) -> None:
    """Wait until the server is healthy; else fail with its log."""
    try:
        eventually(lambda: stack.health("triton") == "healthy", "the health of triton", 180)
    except pytest.fail.Exception as error:
        log = run("docker", "logs", "--tail", "40", stack.container("triton"))
        pytest.fail(f"{error}; its log ends:\n{log.stdout}{log.stderr}", pytrace=False)


@pytest.fixture(scope="session")
def whole(stack: Stack) -> Stack:
    """The stack with Locust's page and the router, added to the running stack as its head comment says."""
    stack.compose("up", "--detach", "locust", "router", profiles="cpu")
    return stack


def published(stack: Stack, service: str) -> list[dict[str, str]]:
    """The host's addresses that lead to a service."""
    bindings = stack.inspect(service)["HostConfig"]["PortBindings"] or {}
    return [address for addresses in bindings.values() for address in addresses]


def send(stack: Stack, protocol: Protocol, batch: int = 3, port: str = "") -> None:
    """One request to every default model that takes numbers, of random ones; its answer has its outputs."""
    with stack.client(protocol, port) as client:
        for model in MODELS:
            contract = client.contract(model)
            if any(spec.datatype == "BYTES" for spec in contract.inputs):
                continue
            _, (values, *_) = inputs(contract, Path("no samples"), batch)
            answer = client.infer(model, values)
            assert set(answer) == {spec.name for spec in contract.outputs}
            assert not contract.batched or {len(array) for array in answer.values()} == {batch}


def prometheus(stack: Stack, path: str) -> Any:
    """The data of one of Prometheus's API answers."""
    return json.loads(fetch(stack.port("PROMETHEUS"), f"/api/v1/{path}"))["data"]


def values(stack: Stack, expression: str) -> list[float]:
    """The numbers that a PromQL expression has now, with the dashboard's variables filled in as Grafana does."""
    # Grafana: the larger of four scrape intervals and a step, with the 5 s of the provisioned data source.
    filled = expression.replace("$model", ".*").replace("$__rate_interval", "20s")
    result = prometheus(stack, f"query?query={urllib.parse.quote(filled)}")["result"]
    return [number for number in (float(series["value"][1]) for series in result) if number == number]


@pytest.mark.parametrize("profiles", PROFILES)
def test_the_file_is_valid_with_profile(profiles: str, stack: Stack) -> None:
    stack.compose("config", "--quiet", profiles=profiles)


@pytest.mark.parametrize("flag, servers", [("cpu", {"triton"}), ("gpu", {"triton-gpu"}), ("locust", set())])
def test_a_profile_flag_takes_the_place_of_the_server_that_the_env_file_names(
    flag: str, servers: set[str], stack: Stack
) -> None:
    # Our image stands in for all: a container that cannot start, for want of a GPU too, was yet chosen and created.
    # (`up --no-start` would do, were it not that docker-compose 1.29 then waits for ever for the end of `build`.)
    image = image_of(stack, "triton")
    images = {f"{name}_IMAGE": image for name in ("TRITON", "HAPROXY", "PROMETHEUS", "GRAFANA")}
    project = f"{stack.project}-{flag}"
    variables = {**stack.variables(""), **free_ports(), **images, "COMPOSE_PROJECT_NAME": project}
    # The variable would come before .env, which is what is tested.
    command = ["env", "--unset=COMPOSE_PROFILES", *shlex.split(compose_command()), "--profile", flag]
    try:
        run(*command, "up", "--detach", check=False, cwd=stack.folder, variables=variables)
        created = run(
            *("docker", "ps", "--all", "--filter", f"label=com.docker.compose.project={project}"),
            *("--format", '{{.Label "com.docker.compose.service"}}'),
        ).stdout.split()
        assert {service for service in created if service.startswith("triton")} == servers
    finally:
        stack.compose("down", "--volumes", profiles=ALL, COMPOSE_PROJECT_NAME=project)
    assert not stack.left(project)


def test_a_user_who_may_not_write_learns_at_once_which_values_to_set(
    stack: Stack, engine: dict[str, Any], user: int
) -> None:
    if user == 0 or "Docker Desktop" in engine["OperatingSystem"]:
        pytest.skip(f"on {engine['OperatingSystem']} (user {user}) every container may write to the user's files")
    fresh = f"{stack.project}-stranger"
    folder = checkout(stack.folder.parent / "stranger", user)
    strange = Stack(folder, user + 4321, fresh, stack.ports)
    try:
        result = strange.compose("run", "--rm", "build", check=False)
    finally:
        strange.compose("down", "--volumes")
    said = result.stdout + result.stderr
    assert result.returncode
    assert f"PUID={user} PGID={user}" in said and "make up" in said and "epoch" not in said


def test_the_build_service_published_a_version_of_every_default_model_that_belongs_to_the_user(stack: Stack) -> None:
    assert stack.inspect("build")["State"]["ExitCode"] == 0
    for model in MODELS:
        assert (stack.folder / "model_repository" / model / "1" / "manifest.json").is_file()
    strangers = [path for path in stack.folder.rglob("*") if path.stat().st_uid != (stack.user or os.getuid())]
    assert not strangers


def test_every_default_model_answers_over_either_protocol(stack: Stack, protocol: Protocol) -> None:
    send(stack, protocol)


def test_a_second_up_trains_nothing(stack: Stack) -> None:
    before = {path: path.stat().st_mtime_ns for path in (stack.folder / "model_repository").rglob("*")}
    started = stack.inspect("build")["State"]["StartedAt"]
    stack.make("up", "ARGS=triton")
    again = eventually(lambda: finished_after(stack, started), "the second run of the build service", 120)
    assert again["ExitCode"] == 0
    assert {path: path.stat().st_mtime_ns for path in (stack.folder / "model_repository").rglob("*")} == before
    await_health(stack)


def finished_after(stack: Stack, started: str) -> dict[str, Any] | None:
    """The state of the build service's container once it has run again to its end."""
    state: dict[str, Any] = stack.inspect("build")["State"]
    return state if state["StartedAt"] != started and state["Status"] == "exited" else None


@pytest.mark.parametrize("service", ("triton", "locust", "router", *PULLED))
def test_ports_are_published_on_loopback_only(service: str, whole: Stack) -> None:
    addresses = published(whole, service)
    assert addresses and {address["HostIp"] for address in addresses} == {"127.0.0.1"}


@pytest.mark.parametrize("service", (*OURS, *PULLED))
def test_a_container_has_no_privileges_and_can_gain_none(service: str, whole: Stack) -> None:
    host = whole.inspect(service)["HostConfig"]
    assert "no-new-privileges:true" in host["SecurityOpt"] and host["CapDrop"] == ["ALL"]
    assert not host["Privileged"] and not host["CapAdd"]


@pytest.mark.parametrize("service", (*OURS, "front"))
def test_a_container_of_ours_runs_without_root_on_a_read_only_file_system(service: str, whole: Stack) -> None:
    facts = whole.inspect(service)
    assert facts["Config"]["User"] == f"{whole.user}:{whole.user}"
    assert facts["HostConfig"]["ReadonlyRootfs"]


@pytest.mark.parametrize("service", (*OURS, *PULLED))
def test_a_container_may_not_take_all_memory(service: str, whole: Stack) -> None:
    assert whole.inspect(service)["HostConfig"]["Memory"] > 0


def test_a_container_has_time_to_drain(stack: Stack) -> None:
    assert stack.inspect("triton")["Config"]["StopTimeout"] >= 30
    door = stack.inspect("front")["Config"]
    assert door["StopTimeout"] >= 20 and door["StopSignal"] == "SIGUSR1"


def test_every_default_model_answers_at_the_front_door_over_either_protocol(stack: Stack, protocol: Protocol) -> None:
    send(stack, protocol, port="FRONT")


def test_the_front_door_is_healthy_and_closed_to_what_changes_the_server(stack: Stack, protocol: Protocol) -> None:
    eventually(lambda: stack.health("front") == "healthy", "the health of front")
    with stack.client(protocol, "FRONT") as client, pytest.raises(RequestRejected, match="operators"):
        client.unload(MODELS[0])


def test_the_front_door_logs_each_request_as_json(stack: Stack) -> None:
    send(stack, "http", port="FRONT")
    log = run("docker", "logs", stack.container("front")).stdout
    entries = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    asked = [entry for entry in entries if entry["path"].endswith("/infer")]
    assert asked and {entry["model"] for entry in asked} <= set(MODELS)
    assert all(entry["status"] == 200 and entry["id"] and entry["ms"] >= 0 for entry in asked[-len(MODELS) :])


def test_the_server_cannot_write_to_the_repository(stack: Stack) -> None:
    (mount,) = [one for one in stack.inspect("triton")["Mounts"] if one["Destination"] == "/app/model_repository"]
    assert mount["RW"] is False
    refusal = stack.execute("triton", "touch", "/app/model_repository/x", check=False)
    assert refusal.returncode and "Read-only file system" in refusal.stderr


def test_the_server_says_nothing_of_trouble_and_has_room_for_tensors(stack: Stack) -> None:
    facts = stack.inspect("triton")
    assert facts["HostConfig"]["ShmSize"] == 1024**3 and facts["RestartCount"] == 0
    log = run("docker", "logs", stack.container("triton"))
    assert not re.search(r"^[EW]\d{4}|error|Traceback", log.stdout + log.stderr, re.MULTILINE), log.stderr


def test_a_replica_that_dies_is_not_noticed_at_the_front_door_and_started_again(stack: Stack) -> None:
    def replicas() -> list[dict[str, Any]]:
        return list(json.loads(fetch(stack.port("STATUS"), "/status"))["replicas"])

    eventually(lambda: all(replica["state"] == "up" for replica in replicas()), "both replicas")
    stack.execute("triton", "sh", "-c", f"kill -9 {FIRST_TRITON}")
    for _ in range(20):
        send(stack, "http", port="FRONT")
        send(stack, "grpc", port="FRONT")
    eventually(lambda: sum(replica["starts"] for replica in replicas()) == 3, "the replica's second start")
    eventually(lambda: all(replica["state"] == "up" for replica in replicas()), "both replicas again")
    assert stack.inspect("triton")["RestartCount"] == 0


def test_a_supervisor_that_dies_is_started_again(stack: Stack) -> None:
    # Its replicas end with it; the engine starts the container anew.
    # The first process that names it is the container's init.
    find = "grep --files-with-matches --text tools.serve /proc/[0-9]*/cmdline | cut -d/ -f3 | sort -n | sed -n 2p"
    stack.execute("triton", "sh", "-c", f"kill -9 $({find})")
    eventually(lambda: stack.inspect("triton")["RestartCount"] > 0, "the restart")
    await_health(stack)
    send(stack, "grpc")


def test_the_configuration_of_prometheus_passes_promtool(stack: Stack) -> None:
    stack.execute("prometheus", "promtool", "check", "config", "/etc/prometheus/prometheus.yml")


def test_prometheus_reaches_its_targets(stack: Stack) -> None:
    stack.container("prometheus")
    eventually(
        lambda: {one["health"] for one in prometheus(stack, "targets")["activeTargets"]} == {"up"}, "all targets"
    )


def test_prometheus_knows_the_alerts_and_none_fires(stack: Stack) -> None:
    stack.container("prometheus")
    groups = eventually(lambda: prometheus(stack, "rules")["groups"], "the rules")
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 10 and {rule["health"] for rule in rules} <= {"ok", "unknown"}
    assert [rule["name"] for rule in rules if rule.get("state") == "firing"] == []


@pytest.mark.parametrize("name", QUERIES)
def test_the_query_of_a_dashboard_panel_returns_data_under_load(name: str, stack: Stack) -> None:
    stack.container("prometheus")

    def under_load() -> list[float]:
        for port in ("", "FRONT"):
            send(stack, "http", port=port)
            send(stack, "grpc", port=port)
        return values(stack, QUERIES[name])

    assert all(value >= 0 for value in eventually(under_load, f"data for {QUERIES[name]}"))


def test_the_dashboard_asks_only_the_data_source_that_is_provisioned(stack: Stack) -> None:
    source = (stack.folder / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text()
    asked = [*DASHBOARD["panels"], *DASHBOARD["templating"]["list"]]
    assert {one["datasource"]["uid"] for one in asked} == set(re.findall(r"uid: (\S+)", source)) == {"prometheus"}


def test_grafana_shows_the_provisioned_dashboard_and_reaches_prometheus(stack: Stack) -> None:
    stack.container("grafana")
    port = stack.port("GRAFANA")
    eventually(lambda: json.loads(fetch(port, "/api/health"))["database"] == "ok", "Grafana", 120)
    shown = eventually(lambda: json.loads(fetch(port, f"/api/dashboards/uid/{DASHBOARD['uid']}")), "the dashboard")
    assert shown["meta"]["provisioned"] and len(shown["dashboard"]["panels"]) == len(DASHBOARD["panels"])
    assert b"nv_inference_count" in fetch(port, "/api/datasources/proxy/uid/prometheus/api/v1/label/__name__/values")


def test_the_front_door_takes_certificates_and_keys(stack: Stack, command: Command) -> None:
    secrets = stack.folder / "secrets"
    command("tools.front", "certificates", secrets, "--host", "127.0.0.1")
    key = command("tools.front", "keys", "add", secrets / "keys.map", "alice").stdout.strip()
    for file in (secrets, *secrets.iterdir()):
        os.chown(file, stack.user or os.getuid(), -1)
    options = "--tls-cert /secrets/server.pem --tls-key /secrets/server.key --api-keys /secrets/keys.map"
    stack.compose("run", "--rm", "build", FRONT_SECRETS="./secrets", FRONT_OPTIONS=options)
    stack.compose("kill", "-s", "USR2", "front")
    tls = Tls(ca_file=str(secrets / "ca.pem"))

    def asked(headers: dict[str, str]) -> bool:
        with Client(Connection("grpc", f"127.0.0.1:{stack.port('FRONT')}", headers=headers, tls=tls)) as client:
            return bool(client.contract(MODELS[0]))

    assert eventually(lambda: asked({"authorization": f"Bearer {key}"}), "an answer over TLS")
    with pytest.raises(RequestRejected):
        asked({"authorization": "Bearer another"})


@NEEDS_CHROMIUM
def test_the_page_beside_the_stack_reads_a_digit_that_is_drawn_in_a_browser(whole: Stack) -> None:
    eventually(lambda: fetch(whole.port("ROUTER"), "/v2/models/stats"), "Triton behind the router")
    url = f"http://127.0.0.1:{whole.port('ROUTER')}/#/models/mnist_mlp"
    with chromium() as browser, visit(browser, url) as page:
        draw(page)
        for model in ("mnist_mlp", "digit_image", "digit_image_bytes"):
            assert share(page, model, "0") > 0.4
        # The router reaches the metrics of both replicas, and has the examples of the repository.
        card(page, "mnist_mlp").locator(".batch").wait_for()
        page.get_by_role("button", name="Example").click()
        page.get_by_role("img", name="The picture").wait_for()


def test_locust_shows_its_web_page(whole: Stack) -> None:
    page = eventually(lambda: fetch(whole.port("LOCUST"), "/"), "Locust's page")
    assert b"Locust" in page


@pytest.mark.parametrize("load_protocol", ("http", "grpc"))
def test_locust_loads_the_server_without_errors(load_protocol: str, whole: Stack) -> None:
    options = ["--headless", "--users", "4", "--spawn-rate", "4", "--run-time", "5s", "--slo", "errors<0.1%"]
    command = ["locust", "-f", "loadtest/locustfile.py", "--protocol", load_protocol, *options]
    done = whole.execute("locust", *command, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "synthetic" not in done.stdout, "the samples of the build service did not reach Locust"


def test_down_leaves_no_container_and_no_network_and_keeps_what_was_built(whole: Stack) -> None:
    whole.make("down")
    volumes = run("docker", "volume", "ls", "--quiet", "--filter", f"name={whole.project}_").stdout
    assert volumes and whole.left(whole.project) == volumes
    assert (whole.folder / "model_repository" / MODELS[0] / "1" / "model.pt").is_file()


def test_down_with_its_volumes_leaves_nothing(whole: Stack) -> None:
    whole.make("down", "ARGS=--volumes")
    assert not whole.left(whole.project)
