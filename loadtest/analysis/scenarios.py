"""Four scenarios as presets of a run, each with the one figure that it reports.

They are modeled on those of MLPerf Inference (Reddi et al., MLPerf Inference Benchmark, ISCA 2020; multi-stream as in
later rounds), without its rules on run length and accuracy and without its load generator: figures must not be called
MLPerf results.

Offline sends requests that fill one batch each, whatever the server's batcher waits for: with 128 callers and one
inference per request, mnist_mlp had batches of 5 to 7 instead of 64 on two cores over HTTP, and a tenth of the
throughput. Two requests per instance are enough; three or four gave no more within the noise.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from clients.client import Client
from clients.errors import InvalidInput
from loadtest.analysis.result import RunResult, ScenarioFigure
from loadtest.analysis.server_side import batching, member_names
from loadtest.load import LoadOptions
from loadtest.slo import PERCENTILES, Objective

_CALLERS = 2  # per instance: one computed, one waiting
_FEWEST = 20  # answers within the run: with fewer, one more or less at its end changes throughput by over 5 %


@dataclass(frozen=True)
class Scenario:
    """A preset."""

    about: str  # the load, for messages
    options: Mapping[str, Any]  # fields of `LoadOptions` that it sets; it refuses those with None
    figure: str  # the name of what it reports; may contain {rate} and {slo}
    unit: str
    value: Callable[[RunResult], float | bool | None]  # the figure of a valid run; None where it was not measured


def _throughput(result: RunResult) -> float | None:
    enough = result.figures.answered_in_time >= _FEWEST
    return round(result.figures.rps * result.client_batch, 1) if enough else None


def _meets_objectives(result: RunResult) -> bool | None:
    """None where no objective was certainly missed and a percentile has too few answers.

    A server that does not keep up with the arrivals meets objectives only for a while, so the answer is no.
    """
    if result.has_passed or result.figures.requests == result.figures.errors:
        return result.has_passed and result.steady is not False
    values = result.figures.values()
    missed = [objective for objective in result.objectives if not objective.is_met(values)]
    return None if all(values[objective.figure] is None for objective in missed) else False


_ONE_CALLER = {"concurrency": 1, "rate": None, "arrivals": None}
SCENARIOS = {
    "single-stream": Scenario(
        "one caller who waits for each answer, one inference per request",
        {**_ONE_CALLER, "client_batch": 1},
        "p90 latency",
        "ms",
        lambda result: result.figures.percentiles["p90"].value,
    ),
    "multi-stream": Scenario(
        "one caller who waits for each answer, 8 inferences per request",
        {**_ONE_CALLER, "client_batch": 8},
        "p99 latency",
        "ms",
        lambda result: result.figures.percentiles["p99"].value,
    ),
    "server": Scenario(
        "Poisson arrivals at --rate, one inference per request",
        {"arrivals": "poisson", "client_batch": 1, "concurrency": None},
        "{rate:g}/s meets {slo}",
        "yes or no",
        _meets_objectives,
    ),
    "offline": Scenario(
        "as many callers and inferences per request as keep the server's batches full",
        {"concurrency": None, "client_batch": None, "rate": None, "arrivals": None},
        "throughput",
        "inferences per second",
        _throughput,
    ),
}


def check_scenario(name: str, model: str, options: LoadOptions, objectives: Sequence[Objective]) -> None:
    """Refuse options that contradict a scenario: raises InvalidInput, which names the option and the remedy."""
    scenario = SCENARIOS[name]
    for field, preset in scenario.options.items():
        value = getattr(options, field)
        if value is not None and value != preset:
            shown = f"{value:g}" if isinstance(value, float) else value
            flag = f"--{field.replace('_', '-')} {shown}"
            raise InvalidInput(f"--scenario {name} is {scenario.about}; got {flag}, leave it out")
    if name != "server":
        return
    slo = ",".join(objective.text for objective in objectives)
    limited = {objective.figure for objective in objectives if objective.below}
    if not limited & {f"{percentile}_ms" for percentile in PERCENTILES}:
        raise InvalidInput(
            f"--scenario server expected a percentile's limit in --slo, for example 'p99<20ms'; got '{slo}'"
        )
    if options.rate is None:
        raise InvalidInput(
            "--scenario server expected --rate N, requests per second; for the highest that meets the objective: "
            f"python -m loadtest.peak {model} --slo '{slo}'"
        )


def apply_scenario(name: str, model: str, options: LoadOptions, client: Client) -> LoadOptions:
    """Set what a scenario presets, some of it by the model's config.

    Raises:
        InvalidInput: the model takes smaller batches than the scenario sends.
        ClientError: the server has no such model.
    """
    presets = {field: value for field, value in SCENARIOS[name].options.items() if value is not None}
    config = client.config(model)
    largest = max(1, batching(config).max_batch_size)
    if name == "offline":
        presets = {"client_batch": largest, "concurrency": _CALLERS * max(1, _instances(client, config))}
    if presets["client_batch"] > largest:
        raise InvalidInput(
            f"--scenario {name} sends {presets['client_batch']} inferences per request, {model} takes {largest} "
            "(max_batch_size); expected a model that takes more, or --scenario single-stream"
        )
    return replace(options, **presets)


def _instances(client: Client, config: dict[str, Any]) -> int:
    """The number of instances that compute at once; of an ensemble, those of its members."""
    if members := member_names(config):
        return sum(_instances(client, client.config(name)) for name in members)
    return batching(config).instances


def scenario_figure(name: str, result: RunResult) -> ScenarioFigure:
    """The figure that a scenario reports of a run."""
    scenario, slo = SCENARIOS[name], ", ".join(objective.text for objective in result.objectives)
    value = scenario.value(result) if result.is_valid else None
    return ScenarioFigure(name, scenario.figure.format(rate=result.load.rate, slo=slo), value, scenario.unit)
