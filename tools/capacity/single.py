"""What one replica sustains: measured on a running server or an embedded one, or read from an earlier search."""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from clients.client import Client
from clients.command import options_from, say
from clients.connection import Connection, connection_from
from clients.errors import InvalidInput
from clients.generation import is_language_model
from clients.installation import as_typed
from loadtest import slo
from loadtest.analysis.highest_rate import find_peak
from loadtest.analysis.measurement import measure, setting_of
from loadtest.options import GeneratorOptions
from loadtest.report.peak_lines import search_effort, tell_trial
from tools.repository import read_config
from tools.serve.tritonserver import Options, Server

_NUMBERS = ("peak_rps", "low_rps", "high_rps")
_OTHERS = ("slo", "sustained_rps", "generator_bound", "narrow", "at_least", "trials")


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """The document of a search for the highest rate of one replica, as the options say.

    Raises:
        InvalidInput: the model is a language model, or the earlier search was another one's.
        RepositoryError: the repository has no such model.
        ServerError: the embedded server does not start.
        ClientError: the running server does not answer, or has no such model.
    """
    if arguments.measured:
        return _read(arguments.measured, arguments.model, arguments.slo)
    model, objectives, options = arguments.model, slo.parse(arguments.slo), options_from(arguments, GeneratorOptions)
    with _server(arguments) as connection, Client(connection) as client:
        if is_language_model(client.contract(model)):
            peak = f"{as_typed('loadtest.peak')} {model} --slo '{arguments.slo}' > peak.txt"
            raise InvalidInput(f"{model} is a language model; run `{peak}`, and give it with --measured peak.txt")
        trial = partial(measure, client, setting_of(client, model, options), objectives=objectives)
        found = find_peak(trial, objectives, search_effort(arguments), options.seed, tell_trial)
    return {"model": model, "protocol": arguments.protocol, "slo": arguments.slo, **found.document()}


@contextmanager
def _server(arguments: argparse.Namespace) -> Iterator[Connection]:
    connection = connection_from(arguments)
    if arguments.url:
        yield connection
        return
    read_config(arguments.model, repository=arguments.repository)  # raises, and names the models that there are
    flags = ["--model-control-mode=explicit", f"--load-model={arguments.model}"]
    options = Options(arguments.repository.resolve(), hardware=arguments.hardware, flags=flags, on_log=say)
    with Server(options) as server:
        yield Connection(connection.protocol, server.address(connection.protocol), connection.timeout_s, 0)


def _read(file: Path, model: str, objectives: str) -> dict[str, Any]:
    document = _document(file)
    lacking = [name for name in _NUMBERS if not isinstance(document.get(name), float | int) or document[name] <= 0]
    if lacking := lacking + [name for name in _OTHERS if name not in document]:
        raise InvalidInput(f"{file} is no result of {as_typed('loadtest.peak')}: it lacks {', '.join(lacking)}")
    if document.get("model") != model:
        raise InvalidInput(f"{file} is about {document.get('model')}, not about {model}")
    if _limits(str(document.get("slo"))) != _limits(objectives):
        raise InvalidInput(f"{file} was measured under {document.get('slo')}, not {objectives}; measure again")
    return document


def _document(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise InvalidInput(f"{file} does not exist; expected what `{as_typed('loadtest.peak')} MODEL` printed")
    text = file.read_text(encoding="utf-8", errors="replace")
    # A document, or what a command printed, which ends with one.
    for part in (text, text.strip().rpartition("\n")[2]):
        with suppress(ValueError, RecursionError):
            found = json.loads(part)
            if isinstance(found, dict):
                inner = found.get("measured", found)
                return inner if isinstance(inner, dict) else found
    raise InvalidInput(f"{file} is no JSON, and does not end with a line of it")


def _limits(text: str) -> set[tuple[str, bool, float]]:
    return {(one.figure, one.below, one.limit) for one in slo.parse(text, tokens=True)}
