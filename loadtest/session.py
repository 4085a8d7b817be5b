"""One load test from start to report: what Locust's events set in motion.

Locust calls these listeners; `loadtest/locustfile.py` registers them. On a worker only the plan is made; the master,
or the single process, asks the server for its counters before and after and writes the report.
"""

import sys
from pathlib import Path
from typing import Any

from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from clients.client import Client
from clients.connection import Connection, default_url
from clients.errors import ClientError, InvalidInput
from loadtest import report, server_statistics, slo
from loadtest.latencies import Latencies
from loadtest.payloads import Payload, payload
from loadtest.results import result_of
from loadtest.users import USERS, Plan


def connection(environment: Environment) -> Connection:
    """The server under test: --host, else the environment's TRITON_HTTP_URL or TRITON_GRPC_URL."""
    options = environment.parsed_options
    assert options is not None
    host = (environment.host or default_url(options.protocol)).split("://")[-1].rstrip("/")
    return Connection(options.protocol, host, retries=0)


def model_weights(text: str | None, client: Client) -> dict[str, int]:
    """Models and their weights from "a,b=2"; all ready models of the server by default.

    Raises:
        InvalidInput: a weight is no positive whole number, or the server has no ready model.
    """
    if not text:
        ready = sorted({one["name"] for one in client.models() if one.get("state") == "READY"})
        if not ready:
            raise InvalidInput(f"the server at {client.connection.url} has no ready model")
        return dict.fromkeys(ready, 1)
    pairs = [part.partition("=") for part in text.split(",") if part]
    wrong = [name for name, _, weight in pairs if weight and not (weight.isdigit() and int(weight) > 0)]
    if wrong:
        raise InvalidInput(f"--models {text}: expected NAME or NAME=WEIGHT with a whole number of at least 1")
    return {name: int(weight or 1) for name, _, weight in pairs}


class Session:
    """Ties one Locust environment to one server; lives as long as Locust's process."""

    def __init__(self, environment: Environment):
        self.environment = environment
        options = environment.parsed_options
        assert options is not None
        self.objectives = slo.parse(options.slo)
        self.latencies = Latencies(environment)
        self.before: server_statistics.Snapshot = {}
        self.sources: dict[str, str] = {}
        environment.user_classes = [USERS[options.protocol]]
        scheme = "http://" if options.protocol == "http" else ""
        environment.host = f"{scheme}{connection(environment).url}"
        environment.events.test_start.add_listener(self.start)
        environment.events.test_stop.add_listener(self.stop)

    def start(self, **_: Any) -> None:
        """Encode the requests and note the server's counters; a server that cannot be tested ends the test."""
        try:
            with Client(connection(self.environment)) as client:
                self.environment.triton_plan = self.plan(client)  # type: ignore[attr-defined]
                self.before = server_statistics.snapshot(client)
        except ClientError as error:
            print(f"error: {error}", file=sys.stderr)
            self.environment.process_exit_code = 2
            assert self.environment.runner is not None
            self.environment.runner.quit()

    def plan(self, client: Client) -> Plan:
        """Encoded requests for the chosen models."""
        options = self.environment.parsed_options
        assert options is not None
        weights = model_weights(options.models, client)
        payloads: list[Payload] = []
        # The master sends nothing, but it must know where the payloads came from.
        for model in weights:
            payloads.append(payload(client, model, Path(options.samples), options.client_batch))
        self.sources = {one.model: one.source for one in payloads}
        return Plan(payloads, list(weights.values()), options.think_time)

    def stop(self, **_: Any) -> None:
        """Compare both sides, print and write the report, and set the exit code."""
        if isinstance(self.environment.runner, WorkerRunner) or self.environment.process_exit_code == 2:
            return
        with Client(connection(self.environment)) as client:
            try:
                counted = server_statistics.difference(self.before, server_statistics.snapshot(client))
            except ClientError as error:
                print(f"error: the server's counters after the test: {error}", file=sys.stderr)
                counted = {}
        result = result_of(self.environment, self.latencies, counted, self.sources, self.objectives)
        options = self.environment.parsed_options
        assert options is not None
        print(report.text(result))
        if options.report:
            folder = report.write(result, Path(options.report))
            print(f"Report: {folder / options.protocol}.html", file=sys.stderr)
        self.environment.process_exit_code = 0 if result["passed"] else 1


def is_master(environment: Environment) -> bool:
    """Whether this process directs others."""
    return isinstance(environment.runner, MasterRunner)
