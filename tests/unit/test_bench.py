"""What the benchmarks read: their options, and the grids that were measured once; they run on a server in tests/e2e."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from loadtest.options import GeneratorOptions
from tools.bench import __main__ as bench
from tools.bench.grid import measure_grid
from tools.tune import __main__ as tune
from tools.tune.candidates import candidate_from
from tools.tune.options import TuneOptions, tune_options

GRIDS = Path(bench.__file__).parent / "grids"
# Options that are read into a `Connection`.
CONNECTION = {"protocol", "timeout", "header", "tls", "ca_file", "cert_file", "key_file", "insecure"}
COMPOSED = CONNECTION | {field.name for field in fields(GeneratorOptions)}
SLO = ["--slo", "p99<20ms"]


@pytest.mark.parametrize("words", [["backend"], ["parallel"], ["pipelines"], ["tune", "any", *SLO]])
def test_a_benchmark_reads_every_option_that_it_offers(words: list[str]) -> None:
    arguments = bench._parser().parse_args(words)
    options = arguments.read(arguments)
    offered = vars(arguments).keys() - {"bench", "read"}
    if words[0] == "tune":
        offered -= COMPOSED
    assert offered and offered <= {field.name for field in fields(options)}


def test_the_tuner_reads_every_option_that_it_offers() -> None:
    arguments = tune._parser().parse_args(["any", *SLO, "--budget", "30s", "--protocol", "grpc", "--client-batch", "4"])
    assert vars(arguments).keys() - COMPOSED - {"models"} <= {field.name for field in fields(TuneOptions)}
    options = tune_options(arguments, TuneOptions)
    assert (options.budget_s, options.connection.protocol, options.generator.client_batch) == (30.0, "grpc", 4)


@pytest.mark.parametrize("model", ["mnist_mlp", "cifar10_cnn"])
def test_a_complete_grid_is_only_read(model: str) -> None:
    path = GRIDS / f"{model}.json"
    measured = json.loads(path.read_text())["measured"]
    candidates = [candidate_from(point["candidate"]) for point in measured]
    grid = measure_grid(None, candidates, 0.0, path, {})  # type: ignore[arg-type]
    assert {point.candidate for point in grid.points} == set(candidates)
    assert grid.seconds > 0 and all(point.peak_rps > 0 for point in grid.points)
