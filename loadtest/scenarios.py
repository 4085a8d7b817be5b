"""Four scenarios as presets of a direct run: what is asked of the server, and the one figure that comes of it.

They are after those of MLPerf Inference (Reddi et al., MLPerf Inference Benchmark, ISCA 2020; multi-stream as in its
later rounds, one query of eight samples after another), without its rules on the length of runs and on accuracy and
without its load generator: figures must not be called MLPerf results.

Offline sends requests that fill a batch each, so that batches are full whatever the server's batcher waits for, with
or without one, and however fast single requests could be sent: 128 callers with one inference per request gave
mnist_mlp batches of 5 to 7 instead of 64 on two cores, over HTTP, and a tenth of the inferences per second. For each
instance one request is computed and one waits; three or four gave no more within the noise of that run.

    python -m loadtest.run mnist_mlp --scenario offline
    python -m loadtest.run mnist_mlp --scenario server --rate 500 --slo 'p99<20ms'
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from clients.client import Client
from clients.errors import InvalidInput
from loadtest.measurement import Document
from loadtest.report.closed_loop import number
from loadtest.server_side import batching
from loadtest.slo import PERCENTILES, Objective, parse

CALLERS = 2  # for each instance: one computed, one waiting
LEAST = 20  # requests answered while the run lasts: with fewer, one more or less at its end is above 5 %


@dataclass(frozen=True)
class Scenario:
    """A preset.

    Attributes:
        about: what is asked of the server, for messages.
        options: those that it sets, by name; with None it refuses the option.
        figure: what it reports; may name {rate} and {slo}.
        unit: of the figure.
        value: the figure of a valid run's document; None where it was not measured.
    """

    about: str
    options: Mapping[str, Any]
    figure: str
    unit: str
    value: Callable[[Document], float | bool | None]


def throughput(document: Document) -> float | None:
    """Inferences per second; None where too few requests were answered to tell."""
    return round(document["rps"] * document["client_batch"], 1) if document["answered_in_time"] >= LEAST else None


def meets(document: Document) -> bool | None:
    """Whether the objectives are met; None where none is surely missed and a percentile has too few answers.

    A server that does not keep up with the arrivals meets them for a while only, which is no.
    """
    if document["passed"] or document["requests"] == document["errors"]:
        return bool(document["passed"] and document["steady"] is not False)
    lost = [one for one in parse(",".join(document["slo"])) if not one.met(document)]
    return None if all(document[one.figure] is None for one in lost) else False


SCENARIOS = {
    "single-stream": Scenario(
        "one caller who waits for each answer, one inference per request",
        {"concurrency": 1, "client_batch": 1, "rate": None, "arrivals": None},
        "p90 latency",
        "ms",
        lambda document: document["p90_ms"],
    ),
    "multi-stream": Scenario(
        "one caller who waits for each answer, 8 inferences per request",
        {"concurrency": 1, "client_batch": 8, "rate": None, "arrivals": None},
        "p99 latency",
        "ms",
        lambda document: document["p99_ms"],
    ),
    "server": Scenario(
        "Poisson arrivals at --rate, one inference per request",
        {"arrivals": "poisson", "client_batch": 1, "concurrency": None},
        "{rate:g}/s meets {slo}",
        "yes or no",
        meets,
    ),
    "offline": Scenario(
        "as many callers and inferences per request as keep the server's batches full",
        {"concurrency": None, "client_batch": None, "rate": None, "arrivals": None},
        "throughput",
        "inferences per second",
        throughput,
    ),
}


def check(given: argparse.Namespace, objectives: list[Objective]) -> None:
    """Refuse options that contradict the scenario.

    Args:
        given: `scenario`, and the other options with None for those that were not given.
        objectives: from --slo.

    Raises:
        InvalidInput: names the option and the remedy.
    """
    scenario = SCENARIOS[given.scenario]
    for name, value in scenario.options.items():
        found = getattr(given, name)
        if found is not None and found != value:
            shown = f"{found:g}" if isinstance(found, float) else found
            flag = f"--{name.replace('_', '-')} {shown}"
            raise InvalidInput(f"--scenario {given.scenario} is {scenario.about}; got {flag}, leave it out")
    if given.scenario == "server":
        check_server(given, objectives)


def check_server(given: argparse.Namespace, objectives: list[Objective]) -> None:
    """Refuse the server scenario without a rate or a limit of a latency's percentile.

    Raises:
        InvalidInput: says what is missing.
    """
    limited = [one for one in objectives if one.below and one.figure in {f"{name}_ms" for name in PERCENTILES}]
    if not limited:
        raise InvalidInput(
            f"--scenario server expected a percentile's limit in --slo, for example 'p99<20ms'; got '{given.slo}'"
        )
    if given.rate is None:
        raise InvalidInput(
            "--scenario server expected --rate N, requests per second; for the highest that meets the objective: "
            f"python -m loadtest.peak {given.model} --slo '{given.slo}'"
        )


def filled(arguments: argparse.Namespace, client: Client) -> argparse.Namespace:
    """The arguments with what the scenario sets, some of it by the model that the server has.

    Raises:
        InvalidInput: the model takes smaller batches than the scenario sends.
        ClientError: the server has no such model.
    """
    sets = {name: value for name, value in SCENARIOS[arguments.scenario].options.items() if value is not None}
    config = client.config(arguments.model)
    largest = max(1, batching(config)["max_batch_size"])
    if arguments.scenario == "offline":
        sets |= {"client_batch": largest, "concurrency": CALLERS * max(1, instances(client, config))}
    if sets["client_batch"] > largest:
        raise InvalidInput(
            f"--scenario {arguments.scenario} sends {sets['client_batch']} inferences per request, {arguments.model} "
            f"takes {largest} (max_batch_size); expected a model that takes more, or --scenario single-stream"
        )
    return argparse.Namespace(**{**vars(arguments), **sets})


def instances(client: Client, config: Document) -> int:
    """How many instances compute at once: a model's own, for an ensemble those of its members."""
    members = {step["model_name"] for step in config.get("ensemble_scheduling", {}).get("step", ())}
    own: int = batching(config)["instances"]
    return sum(instances(client, client.config(name)) for name in members) if members else own


def outcome(name: str, document: Document) -> Document:
    """The scenario's figure of a run: name, figure, value (None: not measured) and unit."""
    scenario = SCENARIOS[name]
    figure = scenario.figure.format(rate=document["rate"], slo=", ".join(document["slo"]))
    value = scenario.value(document) if document["valid"] else None
    return {"name": name, "figure": figure, "value": value, "unit": scenario.unit}


def sentence(document: Document) -> list[str]:
    """The scenario's figure as people read it; nothing for a run without a scenario."""
    found = document.get("scenario")
    if not found:
        return []
    value = f"not measured: {absence(document)}" if found["value"] is None else said(found)
    return [f"Scenario {found['name']}: {found['figure']}: {value}"]


def absence(document: Document) -> str:
    """Why a scenario has no figure."""
    if not document["valid"]:
        return "the run is not valid"
    if document["requests"] == document["errors"]:
        return "no request was answered"
    return "too few answers, lengthen --duration"


def said(found: Document) -> str:
    """The value with its unit."""
    value = found["value"]
    return ("yes" if value else "no") if isinstance(value, bool) else f"{number(value)} {found['unit']}"
