"""Load tests with real Locust processes against a real server."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest

from clients.client import Client
from tests.conftest import connection_to
from tests.waiting import soon
from tools.repository import ROOT, model_names, read_config, versions
from tools.serve.tritonserver import Options, Server

Command = Callable[..., subprocess.CompletedProcess[str]]
USERS = 8
SAMPLES = ROOT / "build" / "samples"


def figures(result: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return document


def assert_complete(run: dict[str, Any]) -> None:
    """The client's and the server's counts agree, up to the requests that were under way at the end."""
    for model in run["models"].values():
        assert model["requests"] > 0
        assert 0 <= model["server"]["requests"] - model["requests"] <= USERS
        assert model["server"]["inferences"] == model["server"]["requests"] * run["client_batch"]


def classifiers() -> set[str]:
    """What is tested by default: the models with sample images that are no pipelines."""
    return {
        model
        for model in model_names()
        if versions(model) and (SAMPLES / model).is_dir() and not read_config(model).ensemble_scheduling.step
    }


def test_both_protocols_are_measured_and_both_sides_agree(command: Command, server: Server, tmp_path: Path) -> None:
    result = command(
        "loadtest.swarm",
        "--users",
        str(USERS),
        "--run-time",
        "2",
        "--report",
        tmp_path,
        "--slo",
        "errors<1%",
        server=server,
    )
    assert result.returncode == 0, result.stderr
    assert "SLO met: errors<1%" in result.stdout
    for protocol, run in figures(result).items():
        # Others than the two that are always built may be too slow to be answered in this time.
        assert {"mnist_mlp", "cifar10_cnn"} <= set(run["models"]) <= classifiers()
        assert {model["payload"] for model in run["models"].values()} == {"samples"}
        assert_complete(run)
        assert run["errors"] == 0 and run["rps"] > 10
        assert 0 < run["p50_ms"] <= run["p95_ms"] <= run["p99_ms"] <= run["max_ms"]
        assert run["mean_batch"] >= 1
        assert {f"{protocol}.{suffix}" for suffix in ("html", "json", "md")} <= {p.name for p in tmp_path.iterdir()}


def test_a_pipeline_is_tested_on_request(command: Command, server: Server, tmp_path: Path) -> None:
    options = ("--users", "4", "--run-time", "1", "--report", tmp_path, "--models", "digit_image,cifar10_image_bytes")
    result = command("loadtest.swarm", *options, server=server)
    assert result.returncode == 0, result.stderr
    for run in figures(result).values():
        assert run["errors"] == 0
        assert {model["payload"] for model in run["models"].values()} == {"samples"}
        assert all(model["requests"] > 0 for model in run["models"].values())


def test_steps_and_pipelines_that_are_left_out_are_named(command: Command, server: Server, tmp_path: Path) -> None:
    options = ("--protocols", "http", "--users", "1", "--run-time", "1", "--report", tmp_path)
    result = command("loadtest.swarm", *options, server=server)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("not tested unless --models names them")]
    assert {"digit_image", "digit_prepare", "image_decode"} <= set(line.partition(": ")[2].split(", "))


def test_workers_figures_are_complete(command: Command, server: Server, tmp_path: Path) -> None:
    options = ("--protocols", "grpc", "--processes", "2", "--models", "mnist_mlp", "--client-batch", "4")
    result = command(
        "loadtest.swarm", *options, "--users", str(USERS), "--run-time", "2", "--report", tmp_path, server=server
    )
    assert result.returncode == 0, result.stderr
    assert_complete(figures(result)["grpc"])


def test_a_missed_objective_is_exit_code_1(command: Command, server: Server, tmp_path: Path) -> None:
    options = ("--protocols", "http", "--users", "1", "--run-time", "1", "--report", tmp_path, "--slo", "p99<1us")
    result = command("loadtest.swarm", *options, server=server)
    assert result.returncode == 1
    assert "SLO missed: p99<1us (was " in result.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--models", "nope"), "unknown model: 'nope'"),
        (("--models", "mnist_mlp=0"), "expected NAME or NAME=WEIGHT"),
        (("--client-batch", "65"), "expected a batch of 1 to 64, got 65"),
        (("--slo", "p12<1ms"), "cannot parse the objective 'p12<1ms'"),
        (("--host", "127.0.0.1:1"), "no server answers at"),
        (("--processes", "2", "--models", "nope"), "unknown model: 'nope'"),
    ],
)
def test_a_test_that_cannot_be_run_is_exit_code_2_and_says_why(
    options: tuple[str, ...], words: str, command: Command, server: Server, tmp_path: Path
) -> None:
    always = ("--protocols", "http", "--users", "1", "--run-time", "5m", "--report", tmp_path)
    result = command("loadtest.swarm", *always, *options, server=server)  # It would be stopped after two minutes.
    assert result.returncode == 2, result.stderr
    assert "error: " in result.stderr and words in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_test_that_cannot_be_run_leaves_earlier_reports_as_they_were(
    command: Command, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "http.json").write_text("earlier")
    options = ("--protocols", "http", "--users", "1", "--run-time", "1", "--report", tmp_path, "--models", "nope")
    assert command("loadtest.swarm", *options, server=server).returncode == 2
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("http.json", "earlier")]


def test_a_protocol_that_cannot_be_tested_does_not_lose_the_other_s_figures(
    command: Command, server: Server, tmp_path: Path
) -> None:
    options = ("--users", "1", "--run-time", "1s", "--report", tmp_path, "--models", "mnist_mlp")
    result = command("loadtest.swarm", *options, server=server, TRITON_GRPC_URL="127.0.0.1:1")
    assert result.returncode == 2 and "no server answers at" in result.stderr
    assert list(figures(result)) == ["http"] and figures(result)["http"]["requests"] > 0


@pytest.mark.parametrize(
    ("module", "options"),
    [
        ("loadtest.run", ("mnist_mlp", "--concurrency", "1", "--duration", "1m")),
        ("loadtest.swarm", ("--protocols", "http", "--users", "1", "--run-time", "1m", "--models", "mnist_mlp")),
    ],
)
def test_a_report_that_cannot_be_written_is_said_before_the_test(
    module: str, options: tuple[str, ...], command: Command, server: Server
) -> None:
    began = time.monotonic()
    result = command(module, *options, "--report", "/proc/reports", server=server)
    assert result.returncode == 2 and time.monotonic() - began < 50
    assert "error: nothing can be written to /proc/reports: " in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "line",
    [
        "loadtest.run mnist_mlp --concurrency 1 --duration 1s --warm-up 0",
        "loadtest.swarm --protocols http --users 1 --run-time 1s --models mnist_mlp",
    ],
)
def test_a_report_that_cannot_be_written_at_the_end_is_printed_all_the_same(
    line: str, server: Server, tmp_path: Path
) -> None:
    # Files of more than 8 KB are refused, as on a disk that is almost full.
    limited = f"ulimit -f 8; {sys.executable} -m {line} --report {tmp_path}"
    addresses = {"TRITON_HTTP_URL": server.http, "TRITON_GRPC_URL": server.grpc}
    environment = {**os.environ, **addresses}
    result = subprocess.run(["bash", "-c", limited], cwd=ROOT, env=environment, text=True, capture_output=True)
    assert result.returncode == 2
    assert "File too large" in result.stderr and "Traceback" not in result.stderr
    assert "p99" in result.stdout


def test_a_time_of_zero_does_not_run_for_ever(server: Server, tmp_path: Path) -> None:
    locust = ["-m", "locust", "-f", "loadtest/locustfile.py", "--headless", "--users", "1", "--run-time", "0"]
    environment = {**os.environ, "TRITON_HTTP_URL": server.http}
    line = [sys.executable, *locust, "--report", str(tmp_path)]
    result = subprocess.run(line, cwd=ROOT, env=environment, text=True, capture_output=True, timeout=60)
    assert result.returncode == 2 and "error: expected --run-time above 0, as 30s or 5m" in result.stderr


def test_locust_takes_the_file_from_any_folder(server: Server, tmp_path: Path) -> None:
    file = str(ROOT / "loadtest" / "locustfile.py")
    options = ["--headless", "--users", "1", "--run-time", "1s", "--models", "mnist_mlp", "--report", str(tmp_path)]
    line = [str(Path(sys.executable).with_name("locust")), "-f", file, *options]
    environment = {**os.environ, "TRITON_HTTP_URL": server.http}
    result = subprocess.run(line, cwd=tmp_path, env=environment, text=True, capture_output=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "http.json").read_text())["models"]["mnist_mlp"]["payload"] == "samples"


@pytest.mark.parametrize("module", ["loadtest.run", "loadtest.swarm"])
def test_a_model_of_bytes_is_tested_with_the_rows_of_a_file(
    module: str, command: Command, server: Server, tmp_path: Path
) -> None:
    model, samples = "cifar10_image_bytes", tmp_path / "none"
    one = ("--concurrency", "1", "--duration", "1", "--warm-up", "0")
    options: tuple[str | Path, ...] = (model, *one)
    if module == "loadtest.swarm":
        options = ("--models", model, "--users", "1", "--run-time", "1", "--protocols", "grpc")
    options = (*options, "--report", tmp_path, "--samples", samples)
    refused = command(module, *options, server=server)
    assert refused.returncode == 2 and "of type BYTES; give real ones with --payload FILE" in refused.stderr
    files = [min(folder.iterdir()).read_bytes() for folder in sorted((SAMPLES / "cifar10_cnn").iterdir())]
    np.save(tmp_path / "files.npy", np.array(files).reshape(-1, 1))
    result = command(module, *options, "--payload", tmp_path / "files.npy", server=server)
    seen = figures(result) if module == "loadtest.run" else figures(result)["grpc"]["models"][model]
    assert seen["requests"] > 0 and seen["errors"] == 0 and seen["payload"] == "files.npy"
    assert "of 0 instance(s) busy" not in result.stdout
    refused = command(module, *options, "--payload", tmp_path / "no.npy", server=server)
    assert refused.returncode == 2 and "expected a .npy file" in refused.stderr


def kill_once_used(server: Server) -> None:
    """Kill a server that has answered some requests."""
    with Client(connection_to(server, "grpc")) as client:
        assert soon(lambda: sum(entry.get("execution_count", 0) for entry in client.statistics()) > 20, 60)
    os.kill(server.pid, signal.SIGKILL)


def test_a_server_that_dies_is_counted_in_errors(command: Command, repository: Path, tmp_path: Path) -> None:
    options = ("--protocols", "http", "--users", "2", "--run-time", "4", "--report", tmp_path, "--slo", "errors<1%")
    with Server(Options(repository)) as doomed:
        killer = threading.Thread(target=kill_once_used, args=(doomed,))
        killer.start()
        result = command("loadtest.swarm", *options, server=doomed)
        killer.join()
    run = figures(result)["http"]
    assert result.returncode == 1
    assert run["errors"] > 0 and run["requests"] > run["errors"]
    assert any("refused" in kind.lower() for kind in run["error_kinds"])


@pytest.fixture
def web_page(server: Server, tmp_path: Path) -> Iterator[http.client.HTTPConnection]:
    """Locust's web page on a free port, as `locust -f loadtest/locustfile.py` opens it."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
    command = ["-m", "locust", "-f", "loadtest/locustfile.py", "--web-host", "127.0.0.1", "--web-port", str(port)]
    environment = {**os.environ, "TRITON_HTTP_URL": server.http}
    process = subprocess.Popen([sys.executable, *command, "--report", str(tmp_path)], cwd=ROOT, env=environment)
    try:
        page = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        assert soon(lambda: answers(page), 60)
        yield page
        page.close()
    finally:
        process.terminate()
        process.wait(60)


def answers(page: http.client.HTTPConnection) -> bool:
    try:
        return ask(page, "GET", "/")[0] == 200
    except OSError:
        page.close()
        return False


def ask(page: http.client.HTTPConnection, method: str, path: str, **form: str) -> tuple[int, str]:
    page.request(method, path, urlencode(form), {"Content-Type": "application/x-www-form-urlencoded"})
    answer = page.getresponse()
    return answer.status, answer.read().decode()


def answered(page: http.client.HTTPConnection) -> int:
    """How many requests of this test Locust has counted."""
    return sum(each["num_requests"] for each in json.loads(ask(page, "GET", "/stats/requests")[1])["stats"])


def test_the_web_page_runs_tests_and_survives_options_that_cannot_be_run(
    web_page: http.client.HTTPConnection, tmp_path: Path
) -> None:
    report = tmp_path / "http.json"
    for models, written in (("nope", False), ("mnist_mlp", True)):
        status, body = ask(web_page, "POST", "/swarm", user_count="2", spawn_rate="2", models=models)
        assert status == 200 and json.loads(body)["success"]
        if written:
            assert soon(lambda: answered(web_page) > 0, 60)
        else:
            time.sleep(1)
        assert ask(web_page, "POST", "/stop")[0] == 200
        assert soon(report.exists) if written else not report.exists()
    assert set(json.loads(report.read_text())["models"]) == {"mnist_mlp"}
