"""Scenarios against a real server, with its metrics endpoint asked."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command
from tools.serve.tritonserver import Server

MODEL = "mnist_mlp"
INVALID = 3


def figures(result: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert result.returncode in (0, 1, INVALID), result.stderr  # Others may use the host.
    document: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return document


@pytest.mark.parametrize(
    ("options", "callers", "batch", "unit"),
    [
        (("single-stream",), 1, 1, "ms"),
        (("multi-stream",), 1, 8, "ms"),
        (("server", "--rate", "50", "--slo", "p50<5s"), None, 1, "yes or no"),
        (("offline", "--protocol", "grpc"), 2, 64, "inferences per second"),
    ],
)
def test_a_scenario_sends_what_it_says_and_gives_its_figure_and_nothing_is_rejected(
    options: tuple[str, ...],
    callers: int | None,
    batch: int,
    unit: str,
    command: Command,
    server: Server,
    tmp_path: Path,
) -> None:
    places = ("--report", tmp_path, "--metrics-url", server.metrics)
    result = command("loadtest.run", MODEL, "--duration", "1.5", *places, "--scenario", *options, server=server)
    seen = figures(result)
    assert (seen["concurrency"], seen["client_batch"]) == (callers, batch)
    assert seen["server"]["inferences"] == batch * seen["server"]["requests"] > 0
    assert seen["server"]["rejects"] == {"failed": {}, "pending": {}, "problem": None}
    found = seen["scenario"]
    assert (found["name"], found["unit"]) == (options[0], unit)
    assert f"Scenario {found['name']}: {found['figure']}: " in result.stdout
    # Too few answers and a generator that was held up are possible on a busy host; then there is no figure.
    assert found["value"] is None or found["value"] > 0
    assert found["value"] is None or seen["valid"]
    assert {path.stem for path in tmp_path.iterdir()} == {f"{MODEL}-{seen['protocol']}-{options[0]}"}


def test_a_contradicting_option_ends_the_command_before_a_request(command: Command, server: Server) -> None:
    result = command("loadtest.run", MODEL, "--scenario", "offline", "--concurrency", "4", server=server)
    assert result.returncode == 2 and not result.stdout
    assert "got --concurrency 4, leave it out" in result.stderr and "Traceback" not in result.stderr


def test_an_endpoint_that_does_not_answer_is_said_and_the_run_stands(
    command: Command, server: Server, tmp_path: Path
) -> None:
    options = ("--concurrency", "1", "--duration", "1", "--report", tmp_path)
    result = command("loadtest.run", MODEL, *options, server=server, TRITON_METRICS_URL="127.0.0.1:1")
    found = figures(result)["server"]["rejects"]
    assert found["failed"] is None and "127.0.0.1:1" in found["problem"]
    assert "Requests that Triton rejected are not counted: no metrics at 127.0.0.1:1" in result.stdout
