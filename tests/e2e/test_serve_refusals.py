"""What keeps the embedded server from starting: each says what is wrong and what to do, and soon."""

import http.server
import shutil
import socket
import threading
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients.client import Client
from clients.connection import Connection
from tests.conftest import Command
from tests.e2e.serving import FREE_PORTS, add_sleeper, sleep_on
from tools.ports import hold_ports
from tools.serve import tritonserver
from tools.serve.__main__ import _status
from tools.serve.hardware import why_no_gpu
from tools.serve.server_error import ServerError
from tools.serve.tritonserver import Options, Server


@pytest.fixture
def sleeper(tmp_path: Path) -> Path:
    """A repository with one model, which starts in a moment."""
    return add_sleeper(tmp_path / "models")


@pytest.fixture
def foreign() -> Iterator[int]:
    """The port of somebody else's server, which says that it is ready."""

    class Ready(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ready) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running.server_port
        running.shutdown()
        thread.join()


def refusal(command: Command, *arguments: str | Path) -> str:
    """The one line that the command says when it refuses, sooner than it would wait for a server."""
    began = time.monotonic()
    answer = command("tools.serve", *arguments)
    assert answer.returncode == 2 and answer.stdout == ""
    assert answer.stderr.startswith("error: ") and "Traceback" not in answer.stderr
    assert time.monotonic() - began < 60
    return answer.stderr.removeprefix("error: ").rstrip()


@pytest.mark.parametrize("name", ["http", "grpc", "metrics"])
def test_a_taken_port_is_refused_with_the_flag_to_change(
    name: str, foreign: int, sleeper: Path, command: Command
) -> None:
    ports = [flag.replace("=0", f"={foreign}") if name in flag else flag for flag in FREE_PORTS]
    assert refusal(command, "--repository", sleeper, *ports) == (
        f"cannot listen on 127.0.0.1:{foreign} (Address already in use); "
        f"choose another with --{name}-port, or 0 for any free port"
    )


def test_where_the_port_after_the_metrics_is_taken_the_state_is_told_at_another(foreign: int) -> None:
    for port in (foreign - 1, 65535):
        with _status(Namespace(status=None, metrics_port=port)) as listener:
            assert listener.getsockname()[1] not in (0, foreign)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--http-port=70000",), "--http-port: expected 1 to 65535, or 0 for any free port; got 70000"),
        (("--metrics-port=70000",), "--metrics-port: expected 1 to 65535, or 0 for any free port; got 70000"),
        (("--grpc-port=-1",), "--grpc-port: expected 1 to 65535, or 0 for any free port; got -1"),
        (("--http-port=18999", "--grpc-port=18999"), "--metrics-port must differ; got 18999, 18999, 0"),
        (
            ("--host=192.0.2.1",),
            "(Cannot assign requested address); give an address or a name of this host with --host",
        ),
        (("--host=no-such-host.invalid",), "'no-such-host.invalid' is no host that is known here ("),
        (("--host=",), "; give an address or a name of this host with --host, or 0.0.0.0 or :: for all"),
        (("--allow-http=false", "--allow-grpc=0", "--allow-metrics=0"), "are all false: nobody could reach the server"),
    ],
)
def test_addresses_that_cannot_be_are_refused(
    flags: tuple[str, ...], message: str, sleeper: Path, command: Command
) -> None:
    assert message in refusal(command, "--repository", sleeper, *FREE_PORTS, *flags)


def test_a_chosen_port_is_nobody_else_s_until_the_server_listens_there(sleeper: Path) -> None:
    (held,) = hold_ports("127.0.0.1", [0])
    port = held.getsockname()[1]
    with held, socket.socket() as other, pytest.raises(OSError, match="already in use"):
        other.bind(("127.0.0.1", port))
    with hold_ports("127.0.0.1", [port])[0], Server(Options(sleeper, http_port=port)) as server:
        assert server.http == f"127.0.0.1:{port}" and server.is_running


def test_somebody_elses_server_is_not_taken_for_ours(
    foreign: int, sleeper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if it had taken the port after it was found free.
    class Lost(socket.socket):
        def getsockname(self) -> tuple[str, int]:
            return "127.0.0.1", foreign

    monkeypatch.setattr(tritonserver, "hold_ports", lambda *_: [Lost(), *hold_ports("127.0.0.1", [0, 0])])
    with pytest.raises(ServerError, match=rf"(?s)ended with exit code 1; .*'127.0.0.1:{foreign}' already in use"):
        Server(Options(sleeper)).__enter__()


def test_a_repository_without_any_version_is_refused_with_the_commands_that_make_one(
    built: Path, tmp_path: Path, command: Command
) -> None:
    shutil.copytree(built, tmp_path / "models", ignore=shutil.ignore_patterns("[0-9]*"))
    names = ", ".join(sorted(path.name for path in (tmp_path / "models").iterdir()))
    assert refusal(command, "--repository", tmp_path / "models", *FREE_PORTS) == (
        f"no version of {names} in {tmp_path / 'models'}; put a model's file into {names.split(', ')[0]}/1; "
        "`python -m tools.export NAME` makes one by a recipe, with --missing all that are served by default"
    )


def test_a_model_without_a_version_is_named_and_the_others_are_served(sleeper: Path) -> None:
    (sleeper / "unbuilt").mkdir()
    (sleeper / "unbuilt" / "config.pbtxt").write_text('name: "unbuilt"\nbackend: "pytorch"\n')
    lines: list[str] = []
    with Server(Options(sleeper, on_log=lines.append)) as server, Client(Connection("http", server.http)) as client:
        assert client.is_ready()
        states = {model["name"]: model.get("state") for model in client.models()}
    assert states["sleeper"] == "READY" and states.get("unbuilt") != "READY"
    assert any(line.startswith(f"not served: no version of unbuilt in {sleeper}") for line in lines)


def test_whoever_chooses_the_control_mode_chooses_the_models(sleeper: Path) -> None:
    with Server(Options(sleeper, flags=("--model-control-mode", "explicit"))) as server:
        server.check()
        with Client(Connection("http", server.http)) as client:
            assert {model.get("state") for model in client.models()} == {None}


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_a_repository_without_models_is_refused_before_anything_is_compiled(
    name: str, tmp_path: Path, command: Command
) -> None:
    (tmp_path / "empty").mkdir()
    line = ("--repository", tmp_path / name, *FREE_PORTS)
    done = command("tools.serve", *line, TRITON_NATIVE_CACHE=str(tmp_path / "cache"))
    assert (done.returncode, done.stderr) == (
        2,
        f"error: {tmp_path / name} holds no model (no <model>/config.pbtxt); give another --repository\n",
    )


def test_a_config_that_cannot_be_read_is_refused_with_its_place(sleeper: Path, command: Command) -> None:
    path = sleeper / "sleeper" / "config.pbtxt"
    path.write_text('name: "sleeper"\nbackent: "python"\n')
    assert refusal(command, "--repository", sleeper, *FREE_PORTS).startswith(f"{path}:2:1 : ")


@pytest.mark.skipif(why_no_gpu() is None, reason="this host has a GPU")
def test_a_gpu_that_is_asked_for_and_not_there_is_an_error(sleeper: Path, command: Command) -> None:
    message = refusal(command, "--repository", sleeper, *FREE_PORTS, "--hardware=gpu")
    assert message == f"--hardware gpu: {why_no_gpu()}; use --hardware cpu, or a host with a GPU"


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--no-such-flag=1", "unrecognized option '--no-such-flag=1'"),
        ("--repo=elsewhere", "option '--repo=elsewhere' is ambiguous"),
        ("--exit-timeout-secs=soon", 'Bad option: "--exit-timeout-secs".\nInvalid option value. Got soon'),
        ("stray", "Unexpected argument: stray"),
    ],
)
def test_a_flag_that_tritonserver_refuses_is_said_without_pages_of_usage(
    flag: str, message: str, sleeper: Path, command: Command
) -> None:
    answer = command("tools.serve", "--repository", sleeper, "--backend", "python", *FREE_PORTS, flag)
    assert answer.returncode == 2
    assert message in answer.stderr.partition("error: tritonserver ended with exit code 1; its log ends:")[2]
    assert len(answer.stderr.splitlines()) < 8


def test_a_model_that_needs_a_gpu_is_named_in_the_log(sleeper: Path) -> None:
    flags = ("--model-config-name=no-such-config",)
    with pytest.raises(ServerError, match=r"(?s)sleeper.* has kind KIND_GPU but no GPUs are available"):
        Server(Options(sleeper, flags=flags)).__enter__()


def test_a_server_that_is_not_ready_in_time_is_stopped_with_its_log(sleeper: Path) -> None:
    with pytest.raises(ServerError, match=r"was not ready after 0\.001 s \(--ready-timeout\); its log ends"):
        Server(Options(sleeper, ready_timeout=0.001)).__enter__()


def test_a_proxy_in_the_environment_is_not_asked_whether_the_server_is_ready(
    sleeper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with Server(Options(sleeper, ready_timeout=60)) as server:
            server.check()


def test_a_reader_of_the_log_that_fails_does_not_hold_the_server_up(sleeper: Path) -> None:
    def closed(line: str) -> None:
        raise BrokenPipeError

    # More than a pipe holds: tritonserver would block on it.
    with Server(Options(sleeper, verbose=True, flags=("--log-verbose=1",), on_log=closed)) as server:
        for _ in range(100):
            assert sleep_on(server.grpc, 0) == 0
        assert len(server.log) == server.log.maxlen
