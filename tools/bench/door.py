"""What the front door costs: the same server, asked directly and through HAProxy.

    python -m tools.bench door
    python -m tools.bench door --concurrency 1 64 --rounds 5
    python -m tools.bench door mnist_mlp --flag=--metrics-config=summary_latencies=true    # what a flag costs instead

One row per request: HTTP with wrk where it is installed, else with perf_analyzer, and gRPC with perf_analyzer. Rounds
go both ways in turn, so that a slowdown of the machine affects both; the tables hold medians. The door inspects and
logs as it does in service, and asks nobody for a key. All share the same cores, the load generator too.
"""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any

from clients.command import progress, text_table
from clients.connection import PROTOCOLS
from tools.bench import wrk
from tools.bench.copies import serve_copies
from tools.bench.options import TRAINED, BenchOptions, add_bench_arguments, trained_models
from tools.front.door import Front
from tools.front.options import Backend, FrontOptions
from tools.repository import read_config
from tools.serve.tritonserver import Server

_IN_FLIGHT = 1024  # This is about cost: nothing is to be refused.


@dataclass(frozen=True, kw_only=True)
class DoorOptions(BenchOptions):
    """The shared options, the protocols, and a flag of tritonserver that is measured in place of the door."""

    protocols: list[str]
    flag: str | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's options."""
    add_bench_arguments(parser, DoorOptions, TRAINED, [1, 8, 32, 64], "each measurement", 2.0, rounds=3)
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=PROTOCOLS, help="(default: all)")
    parser.add_argument("--flag", help="of tritonserver: what it costs, in place of the door")


def run(options: DoorOptions) -> dict[str, Any]:
    """Measure all models, print a table of each, and return the figures."""
    document, models = {}, options.models or trained_models()
    with (
        serve_copies(models, options.repository, options.hardware) as server,
        _flagged(models, options) if options.flag else _door(models, server, options) as other,
    ):
        for model in models:
            loads = _rounds(model, {"direct": _addresses(server), **other}, options)
            print(f"\n{model}\n{text_table(_table(loads, *other))}", flush=True)
            document[model] = {" ".join(map(str, key)): asdict(load) for key, load in loads.items()}
    return document


_Ways = dict[str, dict[str, str]]  # addresses by protocol, by way


def _addresses(server: Server) -> dict[str, str]:
    return {str(name): server.address(name) for name in PROTOCOLS}


@contextmanager
def _door(models: Sequence[str], server: Server, options: DoorOptions) -> Iterator[_Ways]:
    configs = [read_config(model, repository=options.repository) for model in models]
    with tempfile.TemporaryDirectory() as scratch:
        wanted = FrontOptions(
            front="127.0.0.1:0", operator="127.0.0.1:0", in_flight=_IN_FLIGHT, access_log=Path(scratch) / "access.json"
        )
        with Front(Path(scratch), wanted, configs, [Backend("replica0", server.http, server.grpc)]) as front:
            yield {"door": dict.fromkeys(PROTOCOLS, front.address)}


@contextmanager
def _flagged(models: Sequence[str], options: DoorOptions) -> Iterator[_Ways]:
    with serve_copies(models, options.repository, options.hardware, flags=[str(options.flag)]) as server:
        yield {"flag": _addresses(server)}


_Loads = dict[tuple[str, int, str], wrk.Load]


def _rounds(model: str, addresses: _Ways, options: DoorOptions) -> _Loads:
    steps = [
        (protocol, level, way)
        for _ in range(options.rounds)
        for protocol in options.protocols
        for level in options.concurrency
        for way in addresses
    ]
    measured: dict[tuple[str, int, str], list[wrk.Load]] = defaultdict(list)
    for protocol, level, way in progress(steps, model):
        load = wrk.send_best(model, addresses[way][protocol], protocol, level, options)
        measured[protocol, level, way].append(load)
    return {key: _median(rounds) for key, rounds in measured.items()}


def _median(rounds: Sequence[wrk.Load]) -> wrk.Load:
    return wrk.Load(*(median(getattr(load, field.name) for load in rounds) for field in fields(wrk.Load)))


def _table(loads: _Loads, other: str) -> list[list[str]]:
    measured = ["direct/s", f"{other}/s", "ratio", "direct p50 / p99 ms", f"{other} p50 / p99 ms"]
    table = [["protocol", "connections", *measured]]
    for protocol, level in dict.fromkeys(key[:2] for key in loads):
        direct, door = (loads[protocol, level, way] for way in ("direct", other))
        cells = [protocol, str(level), f"{direct.rate:,.0f}", f"{door.rate:,.0f}", f"{door.rate / direct.rate:.2f}"]
        table.append([*cells, *(f"{load.p50_ms:.2f} / {load.p99_ms:.2f}" for load in (direct, door))])
    return table
