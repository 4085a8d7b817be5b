"""Validate `loadtest.llm`: NVIDIA's aiperf sends the same prompts to the same OpenAI endpoint, in turns.

    python -m venv ~/aiperf && ~/aiperf/bin/pip install aiperf==0.13.0
    python -m tests.aiperf smollm2 --aiperf ~/aiperf/bin/aiperf --concurrency 1 8 --rounds 4

One run starts the embedded server with the model alone and without a prefix cache, and OpenAI's API in front of it. In
each round both measure a closed loop of streamed completions with greedy answers of one length; who begins alternates.
Tokens are those of the server's usage for both. aiperf's inter-token latency is the mean of one answer, which
`loadtest.llm` calls tpot. The server has every second core and the two that measure have the others: on shared cores
the one that uses less of them sees a faster server. The table shows the processor seconds of each run, its start
included. The last line of stdout is one compact JSON document; the exit code is 1 if the median of a ratio is off by
more than a tenth.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from clients.command import command, command_parser, duration, positive, print_json, say, text_table
from loadtest.prompts import PromptOptions
from tests.generator.agreement import ratio
from tests.language.closed_loop import LoopFailed, Task, measured, printed_by, serving, write_prompts
from tools.repository import REPOSITORY

_TOLERANCE = 0.1
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


def ours(task: Task) -> Figures:
    """Run `loadtest.llm` once."""
    document, cpu_s = measured(task)
    figures = {name: document[own] for name, (_, _, own) in _FIGURES.items()}
    if None in figures.values():
        raise LoopFailed(f"loadtest.llm: {document['requests']} answers are too few for a p50; set more --seconds")
    return {**figures, _CPU: cpu_s}


def theirs(task: Task, aiperf: str) -> Figures:
    """Run aiperf once."""
    with tempfile.TemporaryDirectory() as scratch:
        line = [aiperf, "profile", "--model", task.model, "--url", f"http://{task.api}", "--streaming"]
        line += ["--endpoint-type", "completions", "--input-file", str(task.prompts)]
        line += ["--custom-dataset-type", "single-turn", "--use-server-token-count"]
        line += ["--tokenizer", str(REPOSITORY / task.model / "1")]  # It wants one, though nothing is counted with it.
        line += ["--concurrency", str(task.concurrency), "--benchmark-duration", str(task.seconds), "--ui", "none"]
        sampling = {"max_tokens": task.asked.output_tokens, "ignore_eos": True, "temperature": 0}
        for name, value in sampling.items():
            line += ["--extra-inputs", f"{name}:{json.dumps(value)}"]
        _, cpu_s = printed_by([*line, "--artifact-dir", scratch])
        document = json.loads((Path(scratch) / "profile_export_aiperf.json").read_text())
    figures = {name: float(document[metric][figure]) for name, (metric, figure, _) in _FIGURES.items()}
    return {**figures, _CPU: cpu_s}


def measure(task: Task, rounds: int, aiperf: str) -> list[tuple[Figures, Figures]]:
    """Measure with both in turn, with new prompts in every round."""
    pairs = []
    for number in range(rounds):
        say(f"concurrency {task.concurrency} round {number + 1} …")
        write_prompts(task)
        second = theirs(task, aiperf) if number % 2 else None
        first = ours(task)
        pairs.append((first, second or theirs(task, aiperf)))
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
        raise LoopFailed(f"no command {arguments.aiperf}; install aiperf in an environment of its own, see --help")
    asked = PromptOptions(arguments.prompt_tokens, arguments.output_tokens)
    rows, document, agree = [["callers", "figure", "loadtest.llm", "aiperf", "ratio"]], {}, True
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[::2])
    with tempfile.TemporaryDirectory() as scratch, serving(arguments.model) as api:
        os.sched_setaffinity(0, cores[1::2] or cores)
        for concurrency in arguments.concurrency:
            file = Path(scratch) / "prompts.jsonl"
            task = Task(arguments.model, api, file, concurrency, arguments.seconds, asked)
            pairs = measure(task, arguments.rounds, aiperf)
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
