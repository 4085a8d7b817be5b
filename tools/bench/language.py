"""What serving a language model costs: tokens per second through Triton beside the same engine in one process.

    python -m tools.bench language
    python -m tools.bench language --concurrency 1 8 --tokens 128

Each round measures, at each number of streams, (a) the engine called in this process, (b) the model served as it
stands, over gRPC, and (c) a copy that continues one sequence at a time. Client and server share the cores; the table
says how much of one core the client took. Tokens are chosen greedily and an end of text is ignored, so that all
generate the same number.
"""

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from google.protobuf.json_format import MessageToDict

from clients.command import positive, progress, text_table
from tools.backends.vllm.pipeline import Pipeline
from tools.backends.vllm.sampling import Sampling
from tools.backends.vllm.settings import read_settings
from tools.bench.options import DEFAULT, BenchOptions, add_bench_arguments
from tools.bench.streams import Streamed, stories, stream
from tools.repository import config_path, model_names, read_config, version_path, versions
from tools.serve.server_error import ServerError
from tools.serve.tritonserver import Options, Server

BACKEND, _ARGUMENTS, _ALONE = "vllm", "model.json", "{}_one_at_a_time"


@dataclass(frozen=True, kw_only=True)
class LanguageOptions(BenchOptions):
    """The shared options, and how many tokens each stream gets."""

    tokens: int


@dataclass(frozen=True)
class _Row:
    """One round at one number of streams: rates in tokens per second."""

    engine: float
    alone: float
    served: float
    streamed: Streamed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's options."""
    add_bench_arguments(parser, LanguageOptions, "all language models", [1, 8, 16], rounds=3)
    parser.add_argument("--tokens", type=positive, default=64, help=f"of each stream {DEFAULT}")


def run(options: LanguageOptions) -> dict[str, Any]:
    """Measure all models, print a table of each, and return the figures."""
    return {model: _bench(model, options) for model in options.models or language_models(options.repository)}


def language_models(repository: Path) -> list[str]:
    """The language models that have a version.

    Raises:
        ServerError: there is none.
    """
    models = [name for name in model_names(repository) if read_config(name, repository=repository).backend == BACKEND]
    built = [name for name in models if versions(name, repository)]
    if not built:
        raise ServerError(f"{repository} holds no version of a language model; `make demo-lm` makes one")
    return built


def _bench(model: str, options: LanguageOptions) -> dict[str, Any]:
    rows = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        copies = Path(scratch)
        _copy(model, options.repository.resolve(), copies, model, {})
        _copy(model, options.repository.resolve(), copies, _ALONE.format(model), {"max_num_seqs": 1})
        engine = _pipeline(model, options.repository)
        with Server(Options(copies, hardware=options.hardware, ready_timeout=300)) as server:
            for level in progress([*options.concurrency] * (options.rounds + 1), model):
                rows[level].append(_row(engine, server, model, level, options.tokens))
                server.check()
    measured = {level: own[1:] for level, own in rows.items()}  # The first round warms up.
    print(f"\n{model}: {options.tokens} tokens a stream\n{text_table(_table(measured))}")
    return {str(level): _figures(own) for level, own in measured.items()}


def _copy(model: str, repository: Path, folder: Path, name: str, arguments: dict[str, Any]) -> None:
    """Link a model's newest version into a repository under another name, with other engine arguments."""
    version = versions(model, repository)[-1]
    source, target = version_path(model, version, repository), folder / name / str(version)
    target.mkdir(parents=True)
    for path in source.iterdir():
        (target / path.name).symlink_to(path)
    given = json.loads((source / _ARGUMENTS).read_text())
    (target / _ARGUMENTS).unlink()
    (target / _ARGUMENTS).write_text(json.dumps(given | arguments))
    config = read_config(model, repository=repository)
    config.name = name
    config_path(name, repository=folder).write_text(str(config))


def _pipeline(model: str, repository: Path) -> Pipeline:
    config = MessageToDict(read_config(model, repository=repository), preserving_proto_field_name=True)
    folder = version_path(model, versions(model, repository)[-1], repository)
    return Pipeline(read_settings(folder, config, "CPU"), Sampling())


def _row(engine: Pipeline, server: Server, model: str, streams: int, tokens: int) -> _Row:
    prompts, total = stories(streams), streams * tokens
    in_process = total / _in_process(engine, prompts, tokens)
    alone = stream(server.grpc, _ALONE.format(model), prompts, tokens)
    served = stream(server.grpc, model, prompts, tokens)
    return _Row(in_process, total / alone.seconds, total / served.seconds, served)


def _in_process(engine: Pipeline, prompts: Iterable[str], tokens: int) -> float:
    """Seconds that the engine takes when nothing else is done with the tokens."""
    began, config = time.perf_counter(), engine.config(Sampling(temperature=0, ignore_eos=True), tokens)
    running = [engine.add(engine.encode(prompt), config) for prompt in prompts]
    while running:
        engine.step()
        running = [handle for handle in running if not engine.news(handle).reason]
    return time.perf_counter() - began


def _table(measured: dict[int, list[_Row]]) -> list[list[str]]:
    header = ["streams", "engine tokens/s", "one at a time", "served", "÷ engine", "÷ one at a time", "client cores"]
    table = [[*header, "first token ms", "between p50 ms", "p99 ms"]]
    for level, rows in measured.items():
        own = _figures(rows)
        cells = [f"{own[name]:,.0f}" for name in ("engine", "one_at_a_time", "served")]
        cells += [f"{own['served'] / own[name]:.2f}" for name in ("engine", "one_at_a_time")]
        cells += [f"{own['client_cores']:.2f}", f"{own['first_ms']:.0f}"]
        table.append([str(level), *cells, f"{own['between_p50_ms']:.1f}", f"{own['between_p99_ms']:.1f}"])
    return table


def _figures(rows: list[_Row]) -> dict[str, float]:
    """Medians of the rounds."""
    between = [seconds for row in rows for seconds in row.streamed.between]
    percentiles = quantiles(between, n=100)
    figures = {
        "engine": median(row.engine for row in rows),
        "one_at_a_time": median(row.alone for row in rows),
        "served": median(row.served for row in rows),
        "client_cores": median(row.streamed.client_cpu_s / row.streamed.seconds for row in rows),
        "first_ms": 1e3 * median(seconds for row in rows for seconds in row.streamed.first),
        "between_p50_ms": 1e3 * percentiles[49],
        "between_p99_ms": 1e3 * percentiles[98],
    }
    return {name: round(value, 3) for name, value in figures.items()}
