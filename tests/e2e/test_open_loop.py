"""Runs of the generator against a real server, over both protocols."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from loadtest.load import due_times
from tests.conftest import Command
from tools.serve.tritonserver import Server

MODEL = "mnist_mlp"
INVALID = 3


def figures(result: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert result.stdout, result.stderr
    document: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return document


def test_every_request_of_the_schedule_reaches_the_server(command: Command, server: Server, tmp_path: Path) -> None:
    options = (
        "--report",
        tmp_path,
        "--explain",
        "--rate",
        "150",
        "--duration",
        "1.5",
        "--processes",
        "2",
        "--client-batch",
        "3",
        "--warm-up",
        "0",
    )
    result = command("loadtest.run", MODEL, *options, "--protocol", "grpc", server=server)
    seen = figures(result)
    assert result.returncode in (0, INVALID), result.stderr  # Others may use the host.
    assert seen["requests"] == len(due_times("poisson", 150, 1.5, 0)) and seen["errors"] == 0
    assert seen["server"]["requests"] == seen["requests"] and seen["server"]["inferences"] == 3 * seen["requests"]
    assert seen["generator"]["processes"] == 2 and seen["payload"] == "samples"
    assert (seen["server"]["instances"], seen["server"]["max_batch_size"]) == (1, 64)
    assert sum(one["executions"] for one in seen["server"]["batches"].values()) == seen["server"]["executions"]
    assert 0 < seen["server"]["busy_instances"] <= 1 and seen["server"]["requests_per_core_s"] > 50
    assert seen["explanation"][0]["why"] in result.stdout
    assert {path.suffix for path in tmp_path.iterdir()} == {".html", ".md", ".json"}
    assert seen["valid"] is False or 0 < seen["p50_ms"] <= seen["p90_ms"] <= seen["max_ms"]


def test_the_peak_under_an_objective_is_found(command: Command, server: Server) -> None:
    options = ("--slo", "p50<1s", "--trial", "0.5", "--budget", "60", "--precision", "20", "--processes", "1")
    result = command("loadtest.peak", MODEL, *options, server=server)
    assert result.returncode in (0, 1, INVALID), result.stderr  # Others may use the host.
    found = figures(result)
    assert 0 < found["low_rps"] <= found["peak_rps"] <= found["high_rps"]
    assert found["generator_bound"] or found["trials"]
    assert "peak about" in result.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("nope", "--rate", "9"), "unknown model: 'nope'"),
        ((MODEL,), "expected --rate N (open loop) or --concurrency N (closed loop)"),
        ((MODEL, "--rate", "9", "--slo", "p12<1ms"), "cannot parse the objective 'p12<1ms'"),
        (
            (MODEL, "--rate", "9", "--warm-up", "10"),
            "expected --warm-up of 0 to less than",
        ),
        ((MODEL, "--rate", "9", "--url", "127.0.0.1:1"), "no server answers at"),
    ],
)
def test_a_run_that_cannot_start_is_exit_code_2_and_says_why(
    options: tuple[str, ...], words: str, command: Command, server: Server
) -> None:
    result = command("loadtest.run", *options, server=server)
    assert result.returncode == 2
    assert words in result.stderr and "Traceback" not in result.stderr and not result.stdout
