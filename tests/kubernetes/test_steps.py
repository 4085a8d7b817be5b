"""What the manifests run in a pod, run here: init steps, the server and its probes, the search of the door for pods.

The command lines are those of the rendered manifests; only paths, addresses and ports are replaced.
"""

import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest

from clients import golden
from clients.client import Client
from clients.connection import PROTOCOLS, Connection, Protocol
from clients.statistics import counted
from tests.conftest import Command
from tests.e2e.serving import FREE_PORTS, MODEL, add_sleeper, serving
from tests.haproxy import NEEDS_HAPROXY
from tests.kubernetes.door import door, here, pods_of_one_name
from tests.kubernetes.names import Names
from tests.kubernetes.rendering import container, rendered
from tests.waiting import soon
from tools.sign.signatures import new_key, sign


@pytest.fixture
def public_key(tmp_path: Path) -> Path:
    """The public key of a pair, in a folder of its own, as a ConfigMap is mounted."""
    public = new_key(tmp_path / "pair")[1]
    (tmp_path / "keys").mkdir()
    return Path(shutil.copy(public, tmp_path / "keys"))


@pytest.fixture
def source(tmp_path: Path, public_key: Path) -> Path:
    """A repository with one signed model, as it lies in the volume."""
    repository = add_sleeper(tmp_path / "source")
    sign("sleeper", 1, tmp_path / "pair" / "private.pem", repository)
    return repository


@pytest.fixture
def init(tmp_path: Path, source: Path, command: Command) -> Callable[[], subprocess.CompletedProcess[str]]:
    """Run the init steps of a replica: the result of the last one."""

    def run() -> subprocess.CompletedProcess[str]:
        shutil.rmtree(tmp_path / "models", ignore_errors=True)
        (tmp_path / "models").mkdir()
        fetch, verify = (container(rendered("cpu"), "triton", step)["command"] for step in ("fetch", "verify"))
        subprocess.run(here(fetch, {"/source": source, "/target": tmp_path / "models"}), check=True)
        python, _, module, *arguments = here(verify, {"/models": tmp_path / "models", "/keys": tmp_path / "keys"})
        assert python == "python"
        return command(module, *arguments)

    return run


def test_what_was_signed_passes_the_init_steps(init: Callable[[], subprocess.CompletedProcess[str]]) -> None:
    result = init()
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_tampered_version_keeps_a_pod_from_serving(
    init: Callable[[], subprocess.CompletedProcess[str]], source: Path
) -> None:
    with (source / "sleeper" / "1" / "model.py").open("a") as file:
        file.write("# Another line.\n")
    result = init()
    assert result.returncode == 1
    assert "sleeper/1/model.py: error: model.py was changed" in result.stdout


def test_a_version_that_nobody_signed_keeps_a_pod_from_serving(
    init: Callable[[], subprocess.CompletedProcess[str]], source: Path
) -> None:
    (source / "sleeper" / "1" / "model.sig").unlink()
    result = init()
    assert result.returncode == 1 and "the version is not signed" in result.stdout


def test_a_pod_is_ready_while_its_models_answer_their_golden_requests(tmp_path: Path, public_key: Path) -> None:
    """A model that begins to answer wrongly, and no reload helps: the pod is alive, and not ready."""
    wrong = tmp_path / "wrong"
    repository = add_sleeper(tmp_path / "models")
    version = repository / "sleeper" / "1"
    answers = f'"SECONDS", seconds + __import__("os").path.exists("{wrong}")'
    (version / "model.py").write_text(MODEL.replace('"SECONDS", seconds', f"{answers}.__int__()"))
    asked = {"SECONDS": np.zeros(1, np.float32)}
    golden.write(version / "golden.npz", golden.Golden(1e-3, (golden.Case(asked, asked),)))
    sign("sleeper", 1, tmp_path / "pair" / "private.pem", repository)

    pod = container(rendered("cpu"), "triton", "triton")
    numbers = {port["name"]: port["containerPort"] for port in pod["ports"]}
    places = {"/models": repository, "/keys": tmp_path / "keys", "0.0.0.0:8003": "127.0.0.1:0", "0.0.0.0": "127.0.0.1"}
    python, _, module, *flags = here(pod["args"], places)
    assert (python, module) == ("python", "tools.serve")
    with serving(tmp_path / "run", *flags, *FREE_PORTS, "--watch=0.3") as running:
        http = running.line().split("http://")[1].split(" ")[0]
        status = running.line().split("http://")[1].split("/")[0]
        where = {numbers["http"]: http, numbers["supervisor"]: status}

        def passes(kind: str) -> bool:
            asked = pod[kind]["httpGet"]
            with closing(HTTPConnection(where[numbers[asked["port"]]], timeout=30)) as connection:
                connection.request("GET", asked["path"])
                return connection.getresponse().status == 200

        assert passes("startupProbe") and passes("livenessProbe")
        assert soon(lambda: passes("readinessProbe"))
        wrong.touch()
        assert soon(lambda: not passes("readinessProbe"))
        assert passes("livenessProbe")
        # The second one waits for nothing.
        assert running.end(signal.SIGTERM, signal.SIGTERM) == 0


@NEEDS_HAPROXY
def test_the_door_spreads_calls_over_all_pods_of_a_name_as_they_come_and_go(tmp_path: Path) -> None:
    """Also the calls of one gRPC channel, which stays connected."""
    with ExitStack() as running:
        servers = pods_of_one_name(add_sleeper(tmp_path / "models"), 2)
        for server in servers:
            running.enter_context(server)
        names = running.enter_context(Names("127.0.0.2"))
        address = running.enter_context(door(tmp_path, names, servers))
        callers = {each: running.enter_context(Client(Connection(each, address))) for each in PROTOCOLS}
        direct = [running.enter_context(Client(Connection("grpc", each.grpc))) for each in servers]

        def answered() -> list[int]:
            return [counted(each.statistics("sleeper")[0]).requests for each in direct]

        def spread(protocol: Protocol, calls: int = 20) -> list[int]:
            """How many of so many calls each server has answered; it counts a call a moment after its answer."""
            before = answered()
            for _ in range(calls):
                callers[protocol].infer("sleeper", np.zeros(1, np.float32))
            assert soon(lambda: sum(answered()) == sum(before) + calls)
            return [now - then for now, then in zip(answered(), before, strict=True)]

        assert soon(callers["http"].is_ready)
        assert {each: spread(each) for each in PROTOCOLS} == {"http": [20, 0], "grpc": [20, 0]}
        names.addresses = ("127.0.0.2", "127.0.0.3")
        assert soon(lambda: all(0 not in spread(each, 2) for each in PROTOCOLS))
        # A health check that comes late takes one of them out for a second.
        assert soon(lambda: min(min(spread(each)) for each in PROTOCOLS) >= 5)
        names.addresses = ("127.0.0.3",)
        assert soon(lambda: all(spread(each, 2) == [0, 2] for each in PROTOCOLS))
        # HAProxy keeps connections to them, which they would wait for.
        for server in servers:
            server.kill()
