"""One load test from start to report: what Locust's events set in motion.

Locust calls these listeners; `loadtest/locustfile.py` registers them. Every process encodes its own requests when a
test starts; the master, or the single process, also asks the server for its counters before and after.
"""

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from gevent import GreenletExit
from locust.env import Environment
from locust.exception import StopTest
from locust.runners import MasterRunner, WorkerRunner

from clients.client import Client
from clients.connection import Connection, default_url
from clients.errors import ClientError, InvalidInput
from loadtest import server_statistics, slo
from loadtest.latencies import Latencies
from loadtest.payloads import payload
from loadtest.report import closed_loop as report
from loadtest.results import result_of
from loadtest.server_statistics import Snapshot
from loadtest.turns import Turns, announce, is_open, turns_of
from loadtest.users import TIMEOUT_S, USERS, Plan
from loadtest.validity import INVALID


def model_weights(text: str | None, client: Client, samples: Path) -> dict[str, int]:
    """Models and their weights from "a,b=2"; by default what `usual` chooses of the ready ones.

    Raises:
        InvalidInput: a weight is no positive whole number, or the server has no ready model.
    """
    if not text:
        ready = sorted({one["name"] for one in client.models() if one.get("state") == "READY"})
        if not ready:
            raise InvalidInput(f"the server at {client.connection.url} has no ready model")
        return dict.fromkeys(usual(ready, client, samples), 1)
    pairs = [part.partition("=") for part in text.split(",") if part]
    if not all(not sign or (weight.isdigit() and int(weight) > 0) for _, sign, weight in pairs):
        raise InvalidInput(f"--models {text}: expected NAME or NAME=WEIGHT with a whole number of at least 1")
    return {name: int(weight or 1) for name, _, weight in pairs}


def usual(ready: list[str], client: Client, samples: Path) -> list[str]:
    """The models that are worth a load test unasked: those with sample images, or all where none has any.

    Steps of pipelines have no samples. Pipelines do, but their requests would be counted at their members too, so
    that no model's figures were its own: they are tested when they are named.
    """
    known = [model for model in ready if (samples / model).is_dir() and not client.contract(model).members]
    passed_over = [model for model in ready if model not in known]
    if known and passed_over:
        print(f"not tested unless --models names them: {', '.join(passed_over)}", file=sys.stderr)
    return known or ready


class Session:
    """Ties one Locust environment to one server; lives as long as Locust's process, over any number of tests."""

    def __init__(self, environment: Environment):
        self.environment = environment
        self.latencies = Latencies(environment)
        self.before: Snapshot | None = None  # None: no test runs
        self.sources: dict[str, str] = {}
        environment.user_classes = [USERS[self.options.protocol]]
        scheme = "http://" if self.options.protocol == "http" else ""
        environment.host = f"{scheme}{self.connection.url}"
        environment.events.test_start.add_listener(self.start)
        # Headless, a master gets its workers' last figures between test_stop and quitting.
        ended = environment.events.quitting if self.options.headless else environment.events.test_stop
        ended.add_listener(self.stop)

    @property
    def options(self) -> Namespace:
        """Locust's options and ours; the web page may change them between tests."""
        options: Namespace | None = self.environment.parsed_options
        assert options is not None
        return options

    @property
    def connection(self) -> Connection:
        """The server under test: --host, else the environment's TRITON_HTTP_URL or TRITON_GRPC_URL."""
        host = self.environment.host or default_url(self.options.protocol)
        return Connection(self.options.protocol, host.split("://")[-1].rstrip("/"), retries=0)

    def start(self, **_: Any) -> None:
        """Encode the requests and note the server's counters; a test that cannot be run ends before it begins."""
        try:
            self.objectives = slo.parse(self.options.slo or "")
            # What is under way at the end must come to its end: the slowest answers would be missing, and Triton 2.51
            # can die of a gRPC request that is cancelled while it answers (triton-inference-server/server, issue 7368).
            self.environment.stop_timeout = max(self.environment.stop_timeout, TIMEOUT_S)
            self.announce()
            with Client(self.connection) as client:
                self.environment.triton_plan = self.plan(client)  # type: ignore[attr-defined]
                self.before = server_statistics.snapshot(client)
        except (ClientError, slo.SloError) as error:
            self.refuse(error)

    def announce(self) -> None:
        """Settle a schedule's beginning and its parts, where there is one; a master does so for its workers."""
        runner, options = self.environment.runner, self.options
        if not is_open(options) or isinstance(runner, WorkerRunner):
            return
        workers = [client.id for client in runner.clients.ready] if isinstance(runner, MasterRunner) else []
        announce(options, workers)

    def refuse(self, error: Exception) -> None:
        """End a test that cannot be run: the whole process where nobody can correct the options, else this test."""
        assert self.environment.runner is not None
        self.before = None
        self.environment.process_exit_code = 2
        if self.options.headless or isinstance(self.environment.runner, WorkerRunner):
            print(f"error: {error}", file=sys.stderr)
            self.environment.runner.quit()
            raise GreenletExit
        raise StopTest(f"error: {error}") from None

    def plan(self, client: Client) -> Plan:
        """Encoded requests for the chosen models."""
        options = self.options
        weights = model_weights(options.models, client, Path(options.samples))
        payloads = [payload(client, model, Path(options.samples), options.client_batch) for model in weights]
        self.sources = {one.model: one.source for one in payloads}
        return Plan(payloads, list(weights.values()), options.think_time, self.turns())

    def turns(self) -> Turns | None:
        """This process's part of the schedule, where there is one."""
        if not is_open(self.options) or isinstance(self.environment.runner, MasterRunner):
            return None
        runner = self.environment.runner
        worker = runner.client_id if isinstance(runner, WorkerRunner) else ""
        return turns_of(self.options, worker, self.latencies.on_late)

    def stop(self, **_: Any) -> None:
        """Compare both sides, print and write the report, and set the exit code."""
        before, self.before = self.before, None
        if before is None or isinstance(self.environment.runner, WorkerRunner):
            return
        assert self.environment.runner is not None
        self.environment.runner.stop()  # Ctrl-C comes here with the users still running.
        result = result_of(self.environment, self.latencies, self.counted(before), self.sources, self.objectives)
        print(report.text(result))
        if self.options.report:
            pages = report.write(result, Path(self.options.report))
            print(f"Report: {pages}", file=sys.stderr)
        self.environment.process_exit_code = INVALID if not result["valid"] else int(not result["passed"])

    def counted(self, before: Snapshot) -> Snapshot:
        """What the server counted since `before`; nothing when it no longer answers."""
        try:
            with Client(self.connection) as client:
                return server_statistics.difference(before, server_statistics.snapshot(client))
        except ClientError as error:
            print(f"error: the server's counters after the test: {error}", file=sys.stderr)
            return {}
