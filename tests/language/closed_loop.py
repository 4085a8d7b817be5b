"""A closed loop of `loadtest.llm` against an OpenAI endpoint, on prompts that another program may be given too."""

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients.connection import Connection
from clients.errors import ToolError
from loadtest.generator.exact_prompts import exact
from loadtest.prompts import PromptOptions, Prompts
from tests.language.asking import add_copy
from tools.repository import ROOT
from tools.serve.router_process import web_application
from tools.serve.tritonserver import Options, Server

_INVALID = 3
_PROMPTS = 2000  # more than a run can use up


class LoopFailed(ToolError):
    """A load generator failed, or was the bottleneck; the message ends with its own."""


@dataclass(frozen=True)
class Task:
    """What is asked of an endpoint."""

    model: str
    api: str  # HOST:PORT
    prompts: Path
    concurrency: int
    seconds: float
    asked: PromptOptions


@contextmanager
def serving(model: str) -> Iterator[str]:
    """Serve a model alone behind OpenAI's API, without a prefix cache: all send the same prompts; yields HOST:PORT."""
    with tempfile.TemporaryDirectory() as scratch:
        add_copy(model, Path(scratch), model, lambda config: None, enable_prefix_caching=False)
        with Server(Options(Path(scratch))) as server, web_application("127.0.0.1", 0, server.http, server.grpc) as api:
            assert api
            yield api.addresses["listen"]


def write_prompts(task: Task) -> None:
    """Write new prompts of one exact length, as the model of the endpoint counts it."""
    prompts = exact(Connection("http", task.api), Prompts(task.model, "openai", task.asked))
    lines = [json.dumps({"text": prompt.text}) + "\n" for prompt in prompts.made(_PROMPTS)]
    task.prompts.write_text("".join(lines))


def measured(task: Task) -> tuple[dict[str, Any], float]:
    """What one run of `loadtest.llm` reports, and the processor seconds that it uses."""
    with tempfile.TemporaryDirectory() as scratch:
        line = [sys.executable, "-m", "loadtest.llm", task.model, "--protocol", "openai", "--url", task.api]
        line += ["--prompts", str(task.prompts), "--output-tokens", str(task.asked.output_tokens), "--warm-up", "0"]
        line += ["--concurrency", str(task.concurrency), "--duration", str(task.seconds), "--report", scratch]
        printed, cpu_s = printed_by(line)
        document: dict[str, Any] = json.loads(printed.splitlines()[-1])
    if document["errors"] or not document["valid"]:
        raise LoopFailed(f"loadtest.llm: {document['error_kinds'] or document['invalid_because']}")
    return document, cpu_s


def printed_by(line: list[str]) -> tuple[str, float]:
    """What a load generator prints, and the processor seconds that it and its children use."""
    before = _children_cpu_s()
    result = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    if result.returncode not in (0, _INVALID):
        raise LoopFailed(f"{line[0]} failed ({result.returncode}): {(result.stderr or result.stdout).strip()[-800:]}")
    return result.stdout, _children_cpu_s() - before


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
