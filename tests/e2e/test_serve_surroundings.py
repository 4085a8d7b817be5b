"""The embedded server in odd folders, at other hosts, with endpoints off or restricted, and with broken models."""

import os
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clients.client import Client
from clients.connection import Connection
from tests.conftest import Command
from tests.e2e.serving import FREE_PORTS, MODEL, add_sleeper, serving, sleep_on
from tools.ports import PortError, numeric_host
from tools.serve.scratch import scratch_parent
from tools.serve.server_error import ServerError
from tools.serve.tritonserver import Options, Server

FAMILIES = (socket.AF_INET, socket.AF_INET6)
ENVIRONMENT = (
    f"{shlex.quote(sys.executable)} -c 'import os; print(sorted(n for n in os.environ if n[-4:] == \"_URL\"))'"
)


@pytest.fixture
def sleeper(tmp_path: Path) -> Path:
    """A repository with one model, which starts in a moment."""
    return add_sleeper(tmp_path / "models")


@pytest.mark.parametrize("name", ["a blank", "a quote'", "dollar $HOME", "ü"])
def test_a_repository_and_tmpdir_may_have_any_path(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "tmp").mkdir()
    models = add_sleeper(tmp_path / name / "models")
    with serving(tmp_path / "run", "--repository", models, *FREE_PORTS, TMPDIR=str(tmp_path / name / "tmp")) as server:
        assert sleep_on(server.grpc(), 0) == 0
        assert server.end(2) == 0


def test_the_code_may_lie_in_a_folder_with_a_blank(sleeper: Path, tmp_path: Path) -> None:
    clone = tmp_path / "my clone"
    clone.mkdir()
    for name in ("clients", "loadtest", "tools"):
        (clone / name).symlink_to(Path(name).resolve())
    line = [sys.executable, "-m", "tools.serve", "--repository", sleeper, *FREE_PORTS, "--run", ENVIRONMENT]
    done = subprocess.run(line, cwd=clone, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "TRITON_GRPC_URL" in done.stdout, done.stderr


def test_a_folder_that_does_not_do_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for unfit in ("/proc", "/no/such/folder", str(tmp_path / "with blank")):
        monkeypatch.setenv("TMPDIR", unfit)
        assert scratch_parent() == Path("/tmp")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert scratch_parent() == tmp_path
    monkeypatch.setattr("tools.serve.scratch._FOLDERS", ("/sys",))
    monkeypatch.setenv("TMPDIR", "/proc")
    with pytest.raises(ServerError, match=r"no folder for the server's files: /proc .*; /sys .*; set TMPDIR to one"):
        scratch_parent()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.parametrize("options", ["size=1m", "noexec,size=64m"])
def test_a_disk_that_is_full_or_executes_nothing_is_passed_over(
    options: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", tmp_path], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        assert scratch_parent() == Path("/tmp")
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.parametrize("host", ["localhost", "::1", "[::1]", "::", "0.0.0.0", socket.gethostname()])
def test_a_host_may_be_a_name_or_any_kind_of_address(host: str, sleeper: Path) -> None:
    try:
        socket.create_server((numeric_host(host).strip("[]"), 0), family=FAMILIES[":" in numeric_host(host)]).close()
    except (OSError, PortError) as error:
        pytest.skip(f"nobody can listen at {host} here: {error}")
    with Server(Options(sleeper, host=host)) as server:
        for protocol in ("http", "grpc"):
            with Client(Connection("grpc" if protocol == "grpc" else "http", server.address(protocol))) as client:
                assert client.is_ready() and client.server()["name"] == "triton"


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (("--allow-http=false",), "GRPC METRICS"),
        (("--allow-grpc", "false"), "HTTP METRICS"),
        (("--allow-metrics=0",), "GRPC HTTP"),
        (("--allow-http=false", "--allow-grpc=false"), "METRICS"),
        (("--http-restricted-api=health,metadata:key=value",), "GRPC HTTP METRICS"),
        (("--allow-http=0", "--grpc-restricted-protocol=health:key=value"), "GRPC METRICS"),
    ],
)
def test_a_server_is_ready_by_what_is_open_and_only_that_is_named(
    flags: tuple[str, ...], names: str, sleeper: Path, command: Command
) -> None:
    began = time.monotonic()
    answer = command("tools.serve", "--repository", sleeper, *FREE_PORTS, *flags, "--run", ENVIRONMENT)
    assert (answer.returncode, answer.stdout.strip()) == (0, str([f"TRITON_{name}_URL" for name in names.split()]))
    assert time.monotonic() - began < 60  # Else it would wait for two minutes.


def test_a_taken_port_of_an_endpoint_that_is_off_does_not_matter(sleeper: Path, command: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = ("--http-port=0", "--grpc-port=0", f"--metrics-port={taken.getsockname()[1]}", "--allow-metrics=false")
        assert command("tools.serve", "--repository", sleeper, *ports, "--run", "true").returncode == 0


def test_the_line_of_a_ready_server_names_what_is_open(sleeper: Path, tmp_path: Path) -> None:
    with serving(tmp_path / "run", "--repository", sleeper, *FREE_PORTS, "--allow-http=false") as server:
        assert server.line().startswith("Serving at 127.0.0.1:")
        server.end(2)


@pytest.mark.parametrize("flags", [(), ("--exit-on-error=false",)])
def test_a_model_that_does_not_load_ends_the_wait_and_its_line_comes_first(
    flags: tuple[str, ...], sleeper: Path, command: Command
) -> None:
    broken = add_sleeper(sleeper, "broken") / "broken" / "1" / "model.py"
    broken.write_text(f"import no_such_package\n{MODEL}")
    began = time.monotonic()
    answer = command("tools.serve", "--repository", sleeper, *FREE_PORTS, *flags)
    assert time.monotonic() - began < 60  # Else it would wait for two minutes.
    said = answer.stderr.partition("error: broken version 1 does not load: ")[2].splitlines()
    assert answer.returncode == 2 and said[0] == "ModuleNotFoundError: No module named 'no_such_package'"
    assert said[1].startswith("tritonserver ") and said[1].endswith("; its log ends:")
    assert "CudaDriverHelper" not in "".join(said)
