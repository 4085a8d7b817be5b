"""The front door before two real tritonservers: who passes, what is refused, what a death does to callers."""

import json
import os
import re
import shutil
import signal
import ssl
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import urlopen

import numpy as np
import psutil
import pytest

from clients.client import Client
from clients.connection import Connection, Protocol, Tls
from clients.errors import RequestRejected, ServerUnavailable, TlsFailed
from tests.conftest import served
from tests.e2e import peers
from tests.e2e.serving import FREE_PORTS, Serving, add_sleeper, fall_asleep, name_of, serving
from tests.haproxy import NEEDS_HAPROXY
from tests.hostile import over_grpc, over_http
from tests.hostile.targets import Callers, door_address, send_grpc, send_http, write_repository
from tests.waiting import soon
from tools.front.certificates import write_authority, write_certificate
from tools.front.door import Front
from tools.front.keys import add_key, revoke_key
from tools.front.options import Backend, FrontError, FrontOptions
from tools.repository import model_names, read_config
from tools.serve.tritonserver import Options, Server
from tools.versions.router_control import started_router

pytestmark = NEEDS_HAPROXY
MODEL, IMAGE = "mnist_mlp", np.full((1, 784), 0.5, np.float32)
ANYWHERE = "127.0.0.1:0"


@dataclass(frozen=True)
class House:
    """Two replicas with a repository, and a folder for doors' files."""

    repository: Path
    servers: list[Server]
    folder: Path

    @contextmanager
    def door(self, **wanted: Any) -> Iterator[Front]:
        """A door before the replicas."""
        options = FrontOptions(**{"front": ANYWHERE, "operator": ANYWHERE, **wanted})
        models = [read_config(model, repository=self.repository) for model in model_names(self.repository)]
        backends = [Backend(f"replica{i}", each.http, each.grpc) for i, each in enumerate(self.servers)]
        with TemporaryDirectory() as folder, Front(Path(folder), options, models, backends) as front:
            yield front


@pytest.fixture(scope="module")
def house(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    repository = add_sleeper(write_repository(built, folder / "models"))
    pki = folder / "pki"
    pki.mkdir()
    for authority in ("ca", "other"):
        write_authority(pki, authority)
    for name, authority, days in (
        ("server", "ca", 9),
        ("client", "ca", 9),
        ("late", "ca", -1),
        ("stranger", "other", 9),
    ):
        write_certificate(pki, name, ["127.0.0.1"], days, authority)
    with ExitStack() as running:
        with ThreadPoolExecutor() as pool:
            contexts = [served(Options(repository)) for _ in range(2)]
            servers = list(pool.map(running.enter_context, contexts))
        yield House(repository, servers, folder)


@pytest.fixture(scope="module")
def plain(house: House) -> Iterator[Front]:
    """A door without TLS or keys."""
    with house.door(request_timeout=1.0, access_log=house.folder / "plain.json") as front:
        yield front


@dataclass(frozen=True)
class Guarded:
    """A door with TLS and keys, and one key of each kind."""

    front: Front
    keys: Path
    log: Path
    caller: str
    operator: str

    def connection(self, protocol: Protocol, key: str | None, pki: Path, **options: Any) -> Connection:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        tls = Tls(ca_file=str(pki / "ca.pem"))
        return Connection(protocol, self.front.address, retries=0, headers=headers, tls=tls, **options)


@pytest.fixture(scope="module")
def guarded(house: House) -> Iterator[Guarded]:
    keys, log, pki = house.folder / "keys.map", house.folder / "access.json", house.folder / "pki"
    caller, operator = add_key(keys, "alice", "caller", 0), add_key(keys, "olga", "operator", 0)
    for kind in ("pem", "key"):
        shutil.copy(pki / f"server.{kind}", house.folder / f"shown.{kind}")
    tls = {"tls_cert": house.folder / "shown.pem", "tls_key": house.folder / "shown.key"}
    with house.door(api_keys=keys, access_log=log, **tls) as front:
        yield Guarded(front, keys, log, caller, operator)


@pytest.fixture
def pki(house: House) -> Path:
    return house.folder / "pki"


def ask(connection: Connection) -> bool:
    with Client(connection) as client:
        return bool(client.infer(MODEL, IMAGE)["OUTPUT__0"].shape == (1, 10))


def test_a_key_opens_the_door_and_nothing_else_does(guarded: Guarded, protocol: Protocol, pki: Path) -> None:
    assert ask(guarded.connection(protocol, guarded.caller, pki))
    for key in (None, "wrong", guarded.caller + "x"):
        with pytest.raises(RequestRejected, match="unknown or revoked"):
            ask(guarded.connection(protocol, key, pki))


def test_keys_come_and_go_without_a_restart(guarded: Guarded, protocol: Protocol, pki: Path) -> None:
    name, process = f"bob-{protocol}", guarded.front.pid
    connection = guarded.connection(protocol, add_key(guarded.keys, name, "caller", 0), pki)
    assert soon(lambda: passes(connection))
    revoke_key(guarded.keys, name)
    assert soon(lambda: not passes(connection))
    assert ask(guarded.connection(protocol, guarded.caller, pki)) and guarded.front.pid == process


def test_keys_are_those_of_the_file_when_haproxy_dies_and_starts_again(house: House, tmp_path: Path) -> None:
    keys = tmp_path / "keys.map"
    first = add_key(keys, "first", "caller", 0)
    with house.door(api_keys=keys) as front:
        old, new = (
            Connection("http", front.address, retries=0, headers={"Authorization": f"Bearer {key}"})
            for key in (first, add_key(keys, "second", "caller", 0))
        )
        revoke_key(keys, "first")
        assert soon(lambda: passes(new) and not passes(old))
        process = front.pid
        os.kill(process, signal.SIGKILL)
        assert soon(lambda: front.pid != process and is_open(front.address))
        assert passes(new) and not passes(old)


def test_a_key_that_haproxy_could_not_be_told_of_goes_once_it_answers(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.front.runtime._PATIENCE_S", 0.2)
    keys = tmp_path / "keys.map"
    headers = {"Authorization": f"Bearer {add_key(keys, 'first', 'caller', 0)}"}
    with house.door(api_keys=keys) as front:
        connection = Connection("http", front.address, retries=0, headers=headers)
        assert passes(connection)
        os.kill(front.pid, signal.SIGSTOP)
        revoke_key(keys, "first")
        assert soon(lambda: "does not answer" in front._said)
        os.kill(front.pid, signal.SIGCONT)
        assert soon(lambda: not passes(connection))


def test_a_door_that_has_started_again_answers_what_is_under_way_before_it_ends(house: House) -> None:
    with ThreadPoolExecutor() as pool:
        with house.door() as front:
            process = front.pid
            os.kill(process, signal.SIGKILL)
            assert soon(lambda: front.pid != process and is_open(front.address))
            answer = fall_asleep(house.repository, front.address, 0.7, pool)
        assert answer.result() == pytest.approx(0.7)


def is_open(address: str) -> bool:
    try:
        return bool(urlopen(f"http://{address}/v2/health/live", timeout=1).status == 200)
    except OSError:
        return False


def passes(connection: Connection) -> bool:
    try:
        return ask(connection)
    except RequestRejected:
        return False


def test_a_key_s_quota_is_kept(guarded: Guarded, protocol: Protocol, pki: Path) -> None:
    connection = guarded.connection(protocol, add_key(guarded.keys, f"few-{protocol}", "caller", 5), pki)
    assert soon(lambda: passes(connection))
    with (
        Client(connection) as client,
        ThreadPoolExecutor(8) as pool,
        pytest.raises(ServerUnavailable, match="requests of this second"),
    ):
        # Side by side, so that on a busy host too many come within a second.
        list(pool.map(lambda _: client.infer(MODEL, IMAGE), range(100)))


def test_a_renewed_certificate_is_shown_without_a_restart(guarded: Guarded, house: House, pki: Path) -> None:
    write_certificate(pki, "renewed", ["127.0.0.1"])
    process = guarded.front.pid
    for kind in ("key", "pem"):
        shutil.copy(pki / f"renewed.{kind}", house.folder / f"shown.{kind}")
    host, _, port = guarded.front.address.rpartition(":")
    wanted = (pki / "renewed.pem").read_text().strip()
    assert soon(lambda: ssl.get_server_certificate((host, int(port))).strip() == wanted)
    assert guarded.front.pid == process


@pytest.mark.parametrize("shown", ["late", "stranger"])
def test_callers_refuse_a_door_whose_certificate_is_expired_or_foreign(
    house: House, protocol: Protocol, pki: Path, shown: str
) -> None:
    with house.door(tls_cert=pki / f"{shown}.pem", tls_key=pki / f"{shown}.key") as front, pytest.raises(TlsFailed):
        ask(Connection(protocol, front.address, retries=0, tls=Tls(ca_file=str(pki / "ca.pem"))))


def test_mutual_tls_lets_in_those_with_a_certificate_of_the_authority(
    house: House, protocol: Protocol, pki: Path
) -> None:
    files = {"tls_cert": pki / "server.pem", "tls_key": pki / "server.key", "client_ca": pki / "ca.pem"}
    with house.door(**files) as front:
        for name in ("client", None, "late", "stranger"):
            own = {"cert_file": str(pki / f"{name}.pem"), "key_file": str(pki / f"{name}.key")} if name else {}
            tls = Tls(ca_file=str(pki / "ca.pem"), **own)
            connection = Connection(protocol, front.address, retries=0, timeout_s=5, tls=tls)
            if name == "client":
                assert ask(connection)
            else:
                with pytest.raises((TlsFailed, ServerUnavailable)):
                    ask(connection)


def test_what_is_for_operators_is_closed_over_http(plain: Front) -> None:
    requests = {f"{how} {path}": over_http.request(body.encode(), path, how) for how, path, body in over_http.CLOSED}
    assert {send_http(plain.address, sent) for sent in requests.values()} == {"403"}


def test_what_is_for_operators_is_closed_over_grpc(plain: Front) -> None:
    answers = {name: send_grpc(plain.address, over_grpc.Call(name, message)) for name, message in over_grpc.CLOSED}
    assert set(answers.values()) == {"PERMISSION_DENIED"}, answers


def test_an_operator_s_key_opens_them_at_the_local_address(guarded: Guarded, protocol: Protocol) -> None:
    def names(key: str) -> set[str]:
        connection = Connection(protocol, guarded.front.operator, headers={"Authorization": f"Bearer {key}"})
        with Client(connection) as client:
            return {model["name"] for model in client.models()}

    assert MODEL in names(guarded.operator)
    for key in (guarded.caller, "wrong"):
        with pytest.raises(RequestRejected, match="only for operators"):
            names(key)
    assert b"haproxy_server_status" in urlopen(f"http://{guarded.front.operator}/metrics").read()


HOSTILE_HTTP = {
    "shape": over_http.infer(over_http.tensor([over_http.HUGE, 784], [1])),
    "hidden shape": next(sent for name, sent in over_http.http_requests() if "escaped" in name),
    "classes of texts": over_http.no_classes("texts"),
    "no classes": over_http.no_classes("nothing"),
    "compressed": over_http.request(b"x", head="Content-Encoding: gzip"),
    "longest": over_http.request(b"", head="Content-Length: 99999999999", length=False),
    "slow": b"POST /v2/models/mnist_mlp/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
    "chunks": over_http.request(b"1\r\n \r\n" * 200_000, head="Transfer-Encoding: chunked", length=False),
}
ANSWERS = {"compressed": "415", "longest": "413", "slow": "408", "chunks": "411"}


@pytest.mark.parametrize("name", HOSTILE_HTTP)
def test_a_hostile_request_over_http_is_refused_at_the_door(name: str, plain: Front, house: House) -> None:
    assert send_http(plain.address, HOSTILE_HTTP[name]) == ANSWERS.get(name, "400")
    for server in house.servers:
        server.check()


def test_hostile_requests_over_grpc_are_refused_at_the_door(plain: Front, house: House) -> None:
    names = ("classes of a STRING output", "the same behind another model's name", "classes of an empty output")
    calls = {name: call for name, call in over_grpc.grpc_requests() if name in names}
    assert {name: send_grpc(plain.address, call) for name, call in calls.items()} == dict.fromkeys(
        names, "INVALID_ARGUMENT"
    )
    for server in house.servers:
        server.check()


def test_good_classification_and_large_requests_pass(plain: Front, protocol: Protocol) -> None:
    with Client(Connection(protocol, plain.address)) as client:
        assert client.classify(MODEL, IMAGE, top=3)[0][0].probability > 0.1
        assert client.infer(MODEL, np.zeros((64, 784), np.float32))["OUTPUT__0"].shape == (64, 10)
        assert client.is_ready() and client.server()["name"] == "triton"


def test_more_than_fits_is_told_so_at_once_and_comes_back_when_told(house: House, protocol: Protocol) -> None:
    with house.door(in_flight=1, queue=1) as front, ThreadPoolExecutor(10) as pool:

        def sleep(seconds: float, retries: int, style: str = "sync") -> tuple[str, float]:
            began, connection = time.monotonic(), Connection(protocol, front.address, retries=retries)
            try:
                peers.ask(style, connection, "infer", "sleeper", np.array([seconds], np.float32))
            except ServerUnavailable as error:
                return str(error), time.monotonic() - began
            return "answered", time.monotonic() - began

        once = list(pool.map(sleep, [0.8] * 10, [0] * 10))
        # Sooner than anybody could have been answered: they have not waited.
        assert len([seconds for outcome, seconds in once if "overloaded" in outcome and seconds < 0.8]) >= 6
        assert "answered" in dict(once)
        # Those who come back only when the answer says so are served, all of them.
        patient = list(pool.map(sleep, [0.5] * 6, [3] * 6, peers.STYLES * 3))
        assert [outcome for outcome, _ in patient] == ["answered"] * 6
        assert max(seconds for _, seconds in patient) > 1


def test_a_door_is_ready_when_a_replica_is(house: House, protocol: Protocol) -> None:
    with house.door() as front, Client(Connection(protocol, front.address, retries=0)) as client:
        assert client.is_ready()
        front.set_state("replica0", "draining")
        assert client.is_ready() and ask(Connection(protocol, front.address))
        front.set_state("replica1", "draining")
        assert not client.is_ready()
        with pytest.raises(ServerUnavailable, match="no replica is up"):
            client.infer(MODEL, IMAGE)
        assert urlopen(f"http://{front.address}/v2/health/live").status == 200
        front.set_state("replica1", "up")
        assert client.is_ready() and ask(Connection(protocol, front.address))


def test_the_log_says_who_asked_what_and_no_secret_is_anywhere(guarded: Guarded, protocol: Protocol, pki: Path) -> None:
    assert ask(guarded.connection(protocol, guarded.caller, pki))
    with pytest.raises(RequestRejected):
        ask(guarded.connection(protocol, "a-wrong-key", pki))

    def own() -> list[dict[str, Any]]:
        served = [line for line in logged(guarded.log) if line["client"] == "alice" and line["protocol"] == protocol]
        return [line for line in served if line["bytes_in"] and "nfer" in line["path"]]

    # HAProxy writes a moment after it has answered.
    assert soon(lambda: bool(own()))
    lines, last = logged(guarded.log), own()[-1]
    assert (
        last["model"] == MODEL and last["status"] == 200 and last["ms"] >= 0 and last["replica"].startswith("replica")
    )
    assert {line["id"] for line in lines if line["id"]} and all(line["time"].endswith("Z") for line in lines)
    written = "".join(path.read_text() for path in guarded.front.folder.iterdir() if path.is_file())
    processes = " ".join(str(process.info["cmdline"]) for process in psutil.process_iter(["cmdline"]))
    for secret in (guarded.caller, guarded.operator, "a-wrong-key"):
        assert secret not in written + processes + guarded.log.read_text()


def logged(log: Path) -> list[dict[str, Any]]:
    """The lines of an access log that are written wholly."""
    return [json.loads(line) for line in log.read_text().split("\n")[:-1]]


def test_a_door_gets_other_replicas_without_a_failed_request(house: House) -> None:
    with house.door() as front:
        both, process = front._backends, front.pid
        callers = Callers({"http": front.address, "grpc": front.address}, pause_s=0.01)
        front.replace_backends(both[:1])
        with callers.calling():
            before = inferences(house.servers)
            assert soon(lambda: inferences(house.servers)[0] > before[0] + 20)
            # Until here there was one replica, which on a busy host one late check takes out.
            between, alone = inferences(house.servers), len(callers.failures)
            front.replace_backends(both)
            assert soon(lambda: inferences(house.servers)[1] > between[1] + 20)
        assert callers.failures[alone:] == [] and front.pid != process
        assert between[1] == before[1]
        with pytest.raises(FrontError, match="does not start") as refused:
            front.replace_backends([Backend("odd name", both[0].http, both[0].grpc)])
        # Without what was logged before.
        with pytest.raises(FrontError) as again:
            front.replace_backends([Backend("odd name", both[0].http, both[0].grpc)])
        assert str(again.value) == str(refused.value)
        assert ask(Connection("http", front.address, retries=0))


def inferences(servers: Sequence[Server]) -> list[int]:
    """How many inferences each has counted."""
    counts = []
    for server in servers:
        with Client(Connection("http", server.http)) as client:
            counts.append(sum(entry["inference_count"] for entry in client.statistics(MODEL)))
    return counts


def test_inferences_pass_the_router_while_there_is_one(house: House, protocol: Protocol) -> None:
    log, server = house.folder / f"router-{protocol}.json", house.servers[0]
    with started_router(server.http, server.grpc) as router:
        assert router.listen
        with house.door(router=router.listen, router_grpc=router.listen_grpc, access_log=log) as front:
            assert ask(Connection(protocol, front.address))
            os.kill(listener(router.listen), signal.SIGKILL)
            assert ask(Connection(protocol, front.address)) and ask(Connection(protocol, front.address))
    passed = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    ways = [line["replica"] for line in passed if line["path"].lower().endswith("infer")]
    assert ways[0] == "router" and set(ways[1:]) <= {"replica0", "replica1"} and len(ways) == 3


def listener(address: str) -> int:
    """Process id of who listens at an address of this host."""
    port = int(address.rpartition(":")[2])
    connections = psutil.net_connections("tcp")
    return next(each.pid for each in connections if each.status == psutil.CONN_LISTEN and each.laddr.port == port)


def test_a_replica_killed_under_load_fails_nobody(house: House, plain: Front) -> None:
    """The last test with these replicas: one is gone after it."""
    callers = Callers({"http": plain.address, "grpc": plain.address}, pause_s=0)
    with callers.calling():
        time.sleep(1)
        house.servers[0]._process.send_signal(signal.SIGKILL)
        time.sleep(2)
        assert soon(lambda: have_been_answered(callers))
    assert callers.failures == []


def have_been_answered(callers: Callers, count: int = 100) -> bool:
    """Whether callers of each protocol have been answered so often."""
    return len(callers.answered) == 2 and min(callers.answered.values()) > count


def test_a_served_door_outlives_a_death_and_a_restart_in_turn(house: House, tmp_path: Path) -> None:
    repository = tmp_path / "models"
    shutil.copytree(house.repository / MODEL, repository / MODEL)
    door = ("--front", ANYWHERE, "--operator", ANYWHERE, "--replicas", "2")
    with serving(tmp_path / "run", "--repository", repository, *FREE_PORTS, *door) as running:
        line = running.line()
        address, operator = door_address(line), line.rpartition("operators at ")[2]

        def replaced(before: set[int], left: int) -> bool:
            now = tritons(running)
            return len(now) == 2 and len(now & before) == left

        callers = Callers({"http": address, "grpc": address}, pause_s=0.01)
        with callers.calling():
            before = tritons(running)
            os.kill(min(before), signal.SIGKILL)
            assert soon(lambda: replaced(before, 1) and are_up(operator))
            before = tritons(running)
            running.process.send_signal(signal.SIGHUP)
            assert soon(lambda: replaced(before, 0) and are_up(operator), 60)
            assert soon(lambda: have_been_answered(callers))
        assert callers.failures == []
        assert running.end(signal.SIGTERM) == 0


def are_up(operator: str) -> bool:
    """Whether both replicas take requests of both protocols, as HAProxy counts."""
    text = urlopen(f"http://{operator}/metrics").read().decode()
    return len(re.findall(r'^haproxy_server_status{proxy="(?:http|grpc)",server="\w+",state="UP"} 1', text, re.M)) == 4


def tritons(running: Serving) -> set[int]:
    """Process ids of its tritonservers."""
    return {pid for pid in running.started() if name_of(pid) == "tritonserver"}
