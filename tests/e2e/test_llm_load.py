"""Load tests of the language model over each protocol, against the real engine."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command
from tests.e2e.language import MODEL
from tools.serve.router_process import web_application
from tools.serve.tritonserver import Server

INVALID = 3
ASKED = ("--prompt-tokens", "80", "--output-tokens", "6")
EXACTLY = [{"least": number, "mean": number, "most": number} for number in (80, 6)]


def figures(command: Command, server: Server, folder: Path, *options: str) -> dict[str, Any]:
    result = command("loadtest.llm", MODEL, *ASKED, "--report", folder, "--warm-up", "0", *options, server=server)
    assert result.returncode in (0, INVALID), result.stderr  # Others may use the host.
    document: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return document


def test_every_prompt_and_every_answer_has_exactly_the_tokens_that_were_asked_for(
    command: Command, language_server: Server, tmp_path: Path
) -> None:
    options = ("--rate", "6", "--duration", "2", "--processes", "2", "--slo", "ttft_p50<20s,itl_p90<20s,errors<1%")
    seen = figures(command, language_server, tmp_path, *options)
    assert seen["errors"] == 0 and seen["requests"] == seen["server"]["requests"] > 5
    assert seen["valid"] is False or [seen["prompt_tokens"], seen["output_tokens"]] == EXACTLY
    assert seen["valid"] is False or (0 < seen["ttft_p50_ms"] < seen["p50_ms"] and seen["goodput_share"] == 1)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{MODEL}-grpc-open.{kind}" for kind in ("html", "md", "json")
    }


@pytest.mark.parametrize("options", [("--protocol", "http"), ("--protocol", "openai", "--chat")])
def test_the_other_protocols_count_the_same_tokens(
    options: tuple[str, ...], command: Command, language_server: Server, tmp_path: Path
) -> None:
    with web_application("127.0.0.1", 0, language_server.http, language_server.grpc) as api:
        assert api
        url = language_server.http if "http" in options else api.addresses["listen"]
        arguments = (*options, "--url", url, "--concurrency", "2", "--duration", "1")
        seen = figures(command, language_server, tmp_path, *arguments)
    assert seen["errors"] == 0 and seen["requests"] >= 2
    exactly = [seen["prompt_tokens"], seen["output_tokens"], seen["is_counted"]]
    assert seen["valid"] is False or exactly == [*EXACTLY, True]
    assert seen["valid"] is False or 0 < seen["tpot_mean_ms"] < seen["mean_ms"]


def test_the_highest_rate_under_an_objective_of_tokens_is_found(
    command: Command, trained_language_server: Server
) -> None:
    options = ("--slo", "ttft_p50<20s", "--trial", "1", "--budget", "6", "--precision", "20", "--protocol", "grpc")
    result = command(
        "loadtest.peak", MODEL, "--prompt-tokens", "8", "--output-tokens", "2", *options, server=trained_language_server
    )
    assert result.returncode in (0, 1, INVALID), result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert 0 < found["low_rps"] <= found["peak_rps"] <= found["high_rps"]
    assert all("ttft_p50_ms" in trial for trial in found["trials"])


@pytest.mark.parametrize(
    ("module", "model", "words"),
    [
        ("loadtest.llm", "no_such_model", "no_such_model"),
        ("loadtest.run", MODEL, f"use `python -m loadtest.llm {MODEL}`"),
    ],
)
def test_what_cannot_be_measured_is_exit_code_2_and_says_why(
    module: str, model: str, words: str, command: Command, language_server: Server
) -> None:
    result = command(module, model, "--rate", "1", server=language_server)
    assert result.returncode == 2 and words in result.stderr and not result.stdout
