"""`python -m tools.serve` as people run it: it starts, says where, passes things on, and leaves nothing behind.

That nothing is left is checked by `serving` after every block, whichever way the server ended.
"""

import json
import os
import signal
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tritonclient.grpc as grpc

from tests.conftest import Command
from tests.e2e.backend_models import GOOD, write
from tests.e2e.serving import FREE_PORTS, Serving, add_sleeper, fall_asleep, serving, sleep_on
from tests.waiting import soon
from tools.serve.tritonserver import Options, Server

STOP_SIGNALS = [signal.SIGTERM, signal.SIGINT]


@pytest.fixture
def sleeper(tmp_path: Path) -> Path:
    """A repository with one model, which starts in a moment."""
    return add_sleeper(tmp_path / "models")


def said(server: Serving) -> list[str]:
    """The lines of its standard error, but for those of a start that was tried again: they come on a busy host."""
    lines = server.stderr.splitlines()
    tried = [place for place, line in enumerate(lines) if "started once more" in line]
    return lines[tried[-1] + 1 if tried else 0 :]


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_it_prints_its_addresses_and_stops_on_a_signal_without_a_trace(
    number: int, sleeper: Path, tmp_path: Path
) -> None:
    # Chosen, so that a host without a compiler has nothing to say about the choice.
    with serving(tmp_path / "run", "--repository", sleeper, "--backend", "python", *FREE_PORTS) as server:
        _, _, http, _, grpc_address, _, metrics, *_ = server.line().split()
        assert urllib.request.urlopen(f"{http}/v2/health/ready").status == 200
        assert sleep_on(grpc_address, 0) == 0
        assert b"nv_inference_request_success" in urllib.request.urlopen(metrics.rstrip(";")).read()
        assert http.startswith("http://127.0.0.1:")
        assert server.shared_memory() and server.started()
        assert server.end(number) == 0
        assert said(server) == ["stopped"], "start-up noise that means nothing must not be shown"


def test_a_model_for_the_gpu_is_served_by_its_config_for_the_cpu(sleeper: Path) -> None:
    with Server(Options(sleeper, hardware="cpu")) as server, grpc.InferenceServerClient(server.grpc) as client:
        (group,) = client.get_model_config("sleeper").config.instance_group
        assert (group.kind, group.count) == (group.KIND_CPU, 1)
    assert (sleeper / "sleeper" / "configs" / "cpu.pbtxt").is_file()


def test_requests_in_flight_are_answered_before_it_stops(sleeper: Path, tmp_path: Path) -> None:
    with serving(tmp_path / "run", "--repository", sleeper, *FREE_PORTS) as server, ThreadPoolExecutor() as pool:
        answer = fall_asleep(sleeper, server.grpc(), 1.0, pool)
        assert server.end(signal.SIGTERM) == 0
        assert answer.result() == 1.0


def test_a_second_ctrl_c_stops_it_at_once(sleeper: Path, tmp_path: Path) -> None:
    arguments = ("--repository", sleeper, "--backend", "python", *FREE_PORTS)
    with serving(tmp_path / "run", *arguments) as server, ThreadPoolExecutor() as pool:
        answer = fall_asleep(sleeper, server.grpc(), 9, pool)
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert server.process.poll() is None, "the first one waits for the request"
        # Those that follow the second must not disturb the cleaning up.
        while server.process.poll() is None:
            server.process.send_signal(signal.SIGINT)
            time.sleep(0.001)
        assert server.process.returncode == 0 and said(server) == ["stopped"]
        assert answer.exception(), "the second one waits for nothing"


def test_killing_it_takes_everything_that_it_started_with_it(sleeper: Path, tmp_path: Path) -> None:
    with serving(tmp_path / "run", "--repository", sleeper, *FREE_PORTS) as server:
        assert sleep_on(server.grpc(), 0) == 0
        assert server.end(signal.SIGKILL) == -signal.SIGKILL


def test_a_stop_before_it_is_ready_leaves_nothing_either(tmp_path: Path) -> None:
    slow = write(tmp_path / "models", {"slow": GOOD["by_index"]})
    # The Python-based backend leaves most to clean up: a process and shared memory for each instance.
    with serving(tmp_path / "run", "--repository", slow, "--backend", "python", *FREE_PORTS) as server:
        assert soon(lambda: bool(server.shared_memory()), 60, pause=0.01)
        assert server.end(signal.SIGINT) == 0


def test_a_tritonserver_that_is_killed_is_noticed_at_once_and_its_log_shown(sleeper: Path, tmp_path: Path) -> None:
    flags = ("--verbose", "--max-deaths=1", *FREE_PORTS)
    with serving(tmp_path / "run", "--repository", sleeper, *flags) as server:
        server.grpc()
        os.kill(server.triton(), signal.SIGKILL)
        assert server.process.wait(60) == 2
        assert "error: tritonserver was killed by SIGKILL; its log ends:\n" in server.stderr
        assert "Started HTTPService" in server.stderr.rpartition("its log ends:")[2]


def test_run_gives_the_addresses_to_a_command_and_its_exit_code_back(sleeper: Path, command: Command) -> None:
    program = "import os, sys; print(os.environ['TRITON_HTTP_URL'], os.environ['TRITON_GRPC_URL']); sys.exit(7)"
    answer = command("tools.serve", "--repository", sleeper, *FREE_PORTS, "--run", f'{sys.executable} -c "{program}"')
    assert answer.returncode == 7
    assert [address.split(":")[0] for address in answer.stdout.split()] == ["127.0.0.1"] * 2


@pytest.mark.parametrize(
    ("run", "code", "message"),
    [
        ("sh -c 'kill -9 $$'", 137, ""),
        ("no-such-command --flag", 127, "no-such-command: not found"),
        ("sh -c 'no end", 2, "argument --run: No closing quotation in sh -c 'no end"),
        ("", 2, "argument --run: the command is empty"),
    ],
)
def test_a_command_that_ends_badly_or_cannot_start_is_reported(
    run: str, code: int, message: str, sleeper: Path, command: Command
) -> None:
    answer = command("tools.serve", "--repository", sleeper, *FREE_PORTS, "--run", run)
    assert answer.returncode == code and message in answer.stderr and "Traceback" not in answer.stderr


def test_a_command_may_be_a_line_of_shell(sleeper: Path, command: Command) -> None:
    line = 'test -n "$TRITON_HTTP_URL" && echo one | tr o O && exit 5'
    answer = command("tools.serve", "--repository", sleeper, *FREE_PORTS, "--run", line)
    assert (answer.returncode, answer.stdout) == (5, "One\n")


@pytest.mark.parametrize("run", ["echo begun && sleep 60 && sleep 60", "echo begun; (sleep 60 & sleep 60)"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP, None])
def test_a_command_outlives_neither_its_server_nor_us(
    run: str, number: int | None, sleeper: Path, tmp_path: Path
) -> None:
    with serving(tmp_path / "run", "--repository", sleeper, *FREE_PORTS, "--run", run) as server:
        assert server.line() == "begun"
        time.sleep(0.2)
        if number is None:
            os.kill(server.triton(), signal.SIGKILL)
            assert server.process.wait(60) == 2
        else:
            assert server.end(number) == (-signal.SIGKILL if number == signal.SIGKILL else 0)


def test_further_flags_reach_tritonserver(sleeper: Path, tmp_path: Path) -> None:
    (add_sleeper(sleeper, "unbuilt") / "unbuilt" / "1" / "model.py").unlink()
    (sleeper / "unbuilt" / "1").rmdir()
    flags = ("--model-control-mode=explicit", "--load-model=sleeper")
    with (
        serving(tmp_path / "run", "--repository", sleeper, *FREE_PORTS, *flags) as server,
        grpc.InferenceServerClient(server.grpc()) as client,
    ):
        states = {model.name: model.state for model in client.get_model_repository_index().models}
        assert states == {"sleeper": "READY", "unbuilt": ""}
        client.unload_model("sleeper")
        assert not client.is_model_ready("sleeper")


def test_another_config_by_name_is_served_instead_of_the_cpus(sleeper: Path) -> None:
    tuned = (sleeper / "sleeper" / "config.pbtxt").read_text().replace("KIND_GPU", "KIND_CPU count: 2")
    (sleeper / "sleeper" / "configs").mkdir()
    (sleeper / "sleeper" / "configs" / "tuned.pbtxt").write_text(tuned)
    with Server(Options(sleeper, flags=("--model-config-name=tuned",))) as server:
        config = json.load(urllib.request.urlopen(f"http://{server.http}/v2/models/sleeper/config"))
        assert [group["count"] for group in config["instance_group"]] == [2]


def test_a_start_that_lost_triton_s_race_for_shared_memory_is_tried_again(sleeper: Path, tmp_path: Path) -> None:
    model, shown = sleeper / "sleeper" / "1" / "model.py", list[str]()
    loser = f"""
import pathlib
tries = pathlib.Path({str(tmp_path / "tries")!r})
tries.open("a").write("x")
if len(tries.read_text()) < 3:
    raise RuntimeError("boost::interprocess::lock_exception")
"""
    model.write_text(loser + model.read_text())
    with Server(Options(sleeper, hardware="cpu", on_log=shown.append)) as server:
        assert server.is_running and sum("once more" in line for line in shown) == 2
