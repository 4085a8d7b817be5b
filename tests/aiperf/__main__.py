"""Validate `loadtest.llm`: NVIDIA's aiperf sends the same prompts to the same OpenAI endpoint, in turns.

    python -m venv ~/aiperf && ~/aiperf/bin/pip install aiperf==0.13.0
    python -m tests.aiperf smollm2 --aiperf ~/aiperf/bin/aiperf --concurrency 1 8 --rounds 4

One run starts the embedded server with the model alone and without a prefix cache, and OpenAI's API in front of it. In
each round both measure a closed loop of streamed completions with greedy answers of one length; who begins alternates.
Tokens are those of the server's usage for both. aiperf's inter-token latency is the mean of one answer, which
`loadtest.llm` calls tpot. Both share the cores with the server, so on a small host the one that uses less of them sees
a faster server: the table shows the processor seconds of each run, its start included. The last line of stdout is one
compact JSON document; the exit code is 1 if the median of a ratio is off by more than a tenth.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clients.command import command, command_parser, duration, positive, print_json, say, text_table
from clients.connection import Connection
from clients.errors import ToolError
from loadtest.generator.exact_prompts import exact
from loadtest.prompts import PromptOptions, Prompts
from tests.generator.agreement import ratio
from tools.repository import REPOSITORY, ROOT
from tools.serve.router_process import openai_api
from tools.serve.tritonserver import Options, Server

_TOLERANCE = 0.1
_INVALID = 3
# aiperf's names of the figures, and ours.
_FIGURES = {
    "tokens_per_s": ("output_token_throughput", "avg", "tokens_per_s"),
    "ttft_mean_ms": ("time_to_first_token", "avg", "ttft_mean_ms"),
    "ttft_p50_ms": ("time_to_first_token", "p50", "ttft_p50_ms"),
    "itl_mean_ms": ("inter_token_latency", "avg", "tpot_mean_ms"),
    "itl_p50_ms": ("inter_token_latency", "p50", "tpot_p50_ms"),
}
_CPU = "generator_cpu_s"
Figures = dict[str, float]


class AiperfFailed(ToolError):
    """One of the two load generators failed; the message ends with its own."""


@dataclass(frozen=True)
class Task:
    """What both do in one round."""

    model: str
    api: str  # HOST:PORT
    prompts: Path
    concurrency: int
    seconds: float
    asked: PromptOptions
    aiperf: str


@contextmanager
def serving(model: str) -> Iterator[str]:
    """Serve a model alone behind OpenAI's API, without a prefix cache: both send the same prompts; yields HOST:PORT."""
    with tempfile.TemporaryDirectory() as scratch:
        version = Path(scratch) / model / "1"
        version.mkdir(parents=True)
        shutil.copy(REPOSITORY / model / "config.pbtxt", version.parent)
        for file in (REPOSITORY / model / "1").iterdir():
            (version / file.name).symlink_to(file)
        settings = json.loads((version / "model.json").read_text()) | {"enable_prefix_caching": False}
        (version / "model.json").unlink()
        (version / "model.json").write_text(json.dumps(settings))
        with Server(Options(Path(scratch))) as server, openai_api(server.grpc, "127.0.0.1", 0) as api:
            assert api
            yield api.addresses["listen"]


def write_prompts(task: Task, count: int) -> None:
    """Write new prompts of one exact length, in the form that both read."""
    prompts = exact(Connection("http", task.api), Prompts(task.model, "openai", task.asked))
    lines = [json.dumps({"text": prompt.text}) + "\n" for prompt in prompts.made(count)]
    task.prompts.write_text("".join(lines))


def ours(task: Task) -> Figures:
    """Run `loadtest.llm` once."""
    with tempfile.TemporaryDirectory() as scratch:
        line = [sys.executable, "-m", "loadtest.llm", task.model, "--protocol", "openai", "--url", task.api]
        line += ["--prompts", str(task.prompts), "--output-tokens", str(task.asked.output_tokens), "--warm-up", "0"]
        line += ["--concurrency", str(task.concurrency), "--duration", str(task.seconds), "--report", scratch]
        printed, cpu_s = _run(line)
        document = json.loads(printed.splitlines()[-1])
    if document["errors"] or not document["valid"]:
        raise AiperfFailed(f"loadtest.llm: {document['error_kinds'] or document['invalid_because']}")
    figures = {name: document[own] for name, (_, _, own) in _FIGURES.items()}
    if None in figures.values():
        raise AiperfFailed(f"loadtest.llm: {document['requests']} answers are too few for a p50; set more --seconds")
    return {**figures, _CPU: cpu_s}


def theirs(task: Task) -> Figures:
    """Run aiperf once."""
    with tempfile.TemporaryDirectory() as scratch:
        line = [task.aiperf, "profile", "--model", task.model, "--url", f"http://{task.api}", "--streaming"]
        line += ["--endpoint-type", "completions", "--input-file", str(task.prompts)]
        line += ["--custom-dataset-type", "single-turn", "--use-server-token-count"]
        line += ["--tokenizer", str(REPOSITORY / task.model / "1")]  # It wants one, though nothing is counted with it.
        line += ["--concurrency", str(task.concurrency), "--benchmark-duration", str(task.seconds), "--ui", "none"]
        sampling = {"max_tokens": task.asked.output_tokens, "ignore_eos": True, "temperature": 0}
        for name, value in sampling.items():
            line += ["--extra-inputs", f"{name}:{json.dumps(value)}"]
        _, cpu_s = _run([*line, "--artifact-dir", scratch])
        document = json.loads((Path(scratch) / "profile_export_aiperf.json").read_text())
    figures = {name: float(document[metric][figure]) for name, (metric, figure, _) in _FIGURES.items()}
    return {**figures, _CPU: cpu_s}


def _run(line: list[str]) -> tuple[str, float]:
    """What a command prints, and the processor seconds that it and its children use."""
    before = _children_cpu_s()
    result = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    if result.returncode not in (0, _INVALID):
        raise AiperfFailed(f"{line[0]} failed ({result.returncode}): {(result.stderr or result.stdout).strip()[-800:]}")
    return result.stdout, _children_cpu_s() - before


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(task: Task, rounds: int) -> list[tuple[Figures, Figures]]:
    """Measure with both in turn, with new prompts in every round."""
    pairs = []
    for number in range(rounds):
        say(f"concurrency {task.concurrency} round {number + 1} …")
        write_prompts(task, 2000)
        second = theirs(task) if number % 2 else None
        first = ours(task)
        pairs.append((first, second or theirs(task)))
    return pairs


@command()
def main() -> int:
    """Compare the two at each concurrency."""
    parser = command_parser("tests.aiperf", __doc__)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--aiperf", default="aiperf", metavar="PATH", help="its command (default: %(default)s)")
    parser.add_argument("--concurrency", nargs="+", type=positive, default=[1, 8], metavar="N")
    parser.add_argument("--rounds", type=positive, default=4, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--seconds", type=duration, default=20.0, metavar="TIME", help="each (default: %(default)s)")
    parser.add_argument("--prompt-tokens", type=positive, default=128, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--output-tokens", type=positive, default=64, metavar="N", help="(default: %(default)s)")
    arguments: argparse.Namespace = parser.parse_args()
    if not (aiperf := shutil.which(arguments.aiperf)):
        raise AiperfFailed(f"no command {arguments.aiperf}; install aiperf in an environment of its own, see --help")
    asked = PromptOptions(arguments.prompt_tokens, arguments.output_tokens)
    rows, document, agree = [["callers", "figure", "loadtest.llm", "aiperf", "ratio"]], {}, True
    with tempfile.TemporaryDirectory() as scratch, serving(arguments.model) as api:
        for concurrency in arguments.concurrency:
            file = Path(scratch) / "prompts.jsonl"
            task = Task(arguments.model, api, file, concurrency, arguments.seconds, asked, aiperf)
            pairs = measure(task, arguments.rounds)
            document[concurrency] = compared = {name: _compare(name, pairs) for name in (*_FIGURES, _CPU)}
            rows += [[str(concurrency), name, *_cells(seen)] for name, seen in compared.items()]
            agree &= all(abs(compared[name]["ratio"]["median"] - 1) <= _TOLERANCE for name in _FIGURES)
    print(text_table(rows))
    print_json({"model": arguments.model, "agree": agree, "by_concurrency": document})
    return int(not agree)


def _compare(name: str, pairs: list[tuple[Figures, Figures]]) -> dict[str, Any]:
    """All rounds' figures, and the ratio of ours to theirs within a round."""
    divided = ratio((first[name], second[name]) for first, second in pairs)
    assert divided
    mine, others = ([round(pair[side][name], 2) for pair in pairs] for side in (0, 1))
    return {"ours": mine, "theirs": others, "ratio": asdict(divided)}


def _cells(seen: dict[str, Any]) -> list[str]:
    spread = "{median:.3f} ({low:.3f} to {high:.3f})".format(**seen["ratio"])
    return [", ".join(map(str, seen["ours"])), ", ".join(map(str, seen["theirs"])), spread]


if __name__ == "__main__":
    sys.exit(main())
