"""One test from start to report, driven by Locust's events; `loadtest/locustfile.py` starts a session.

Every process encodes its own requests when a test starts. The master, or the only process, also reads the server's
counters before and after.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import gevent
from locust.env import Environment
from locust.exception import StopTest
from locust.runners import WorkerRunner

from clients.client import Client
from clients.command import say
from clients.connection import Connection, default_url
from clients.errors import ClientError, InvalidInput, ToolError
from clients.output import try_folder
from loadtest import slo
from loadtest.analysis import counters
from loadtest.payloads import payload
from loadtest.swarm import report
from loadtest.swarm.latencies import Latencies
from loadtest.swarm.options import SwarmOptions, swarm_options
from loadtest.swarm.users import TIMEOUT_S, USERS, Plan


def model_weights(text: str, client: Client, samples: Path) -> dict[str, int]:
    """Read "a,b=2", by default the ready models worth a test; raises InvalidInput for a bad weight or no model."""
    if not text:
        ready = sorted({model["name"] for model in client.models() if model.get("state") == "READY"})
        if not ready:
            raise InvalidInput(f"the server at {client.connection.url} has no ready model")
        # Steps of pipelines have no samples. Pipelines do, but their requests would be counted at their members too, so
        # that no model's figures would be its own: they are tested only on request, or where no model has samples.
        chosen = [model for model in ready if (samples / model).is_dir() and not client.contract(model).members]
        others = [model for model in ready if model not in chosen]
        if chosen and others:
            say(f"not tested unless --models names them: {', '.join(others)}")
        return dict.fromkeys(chosen or ready, 1)
    pairs = [part.partition("=") for part in text.split(",") if part]
    if not all(not sign or (weight.isdigit() and int(weight) > 0) for _, sign, weight in pairs):
        raise InvalidInput(f"--models {text}: expected NAME or NAME=WEIGHT with a whole number of at least 1")
    return {name: int(weight or 1) for name, _, weight in pairs}


class Session:
    """Ties one Locust environment to one server; lives as long as Locust's process, over any number of tests."""

    def __init__(self, environment: Environment, **_: Any):
        self._environment = environment
        self._latencies = Latencies(environment)
        self._before: counters.Snapshot | None = None  # None: no test is running
        self._sources: dict[str, str] = {}
        self._objectives: Sequence[slo.Objective] = []
        # Else --run-time would count from before the imports, which take a second.
        gevent.get_hub().loop.update_now()
        options = self._options
        environment.user_classes = [USERS[options.protocol]]
        scheme = "http://" if options.protocol == "http" else ""
        environment.host = f"{scheme}{self._connection.url}"
        environment.events.test_start.add_listener(self._start)
        # Headless, a master receives its workers' last figures between test_stop and quitting.
        end = environment.events.quitting if options.headless else environment.events.test_stop
        end.add_listener(self._stop)

    @property
    def _options(self) -> SwarmOptions:
        # Read anew for each test: the web page may change them.
        assert self._environment.parsed_options is not None
        return swarm_options(self._environment.parsed_options)

    @property
    def _connection(self) -> Connection:
        """The server under test: --host, else the environment's TRITON_HTTP_URL or TRITON_GRPC_URL."""
        protocol = self._options.protocol
        host = self._environment.host or default_url(protocol)
        return Connection(protocol, host.split("://")[-1].rstrip("/"), retries=0)

    @property
    def _is_worker(self) -> bool:
        return isinstance(self._environment.runner, WorkerRunner)

    def _start(self, **_: Any) -> None:
        """Encode the requests and read the server's counters; a test that cannot be run ends before it begins."""
        environment, options = self._environment, self._options
        try:
            # Locust takes 0 for no limit.
            if environment.parsed_options and environment.parsed_options.run_time == 0:
                raise InvalidInput("expected --run-time above 0, as 30s or 5m; leave it out to run until Ctrl-C")
            self._objectives = slo.parse(options.slo)
            if options.report and not self._is_worker:
                try_folder(options.report, "--report")
            # Requests under way at the end must complete: the slowest answers would be missing, and Triton 2.51 can
            # crash on a gRPC request that is cancelled while it answers (triton-inference-server/server, issue 7368).
            environment.stop_timeout = max(environment.stop_timeout, TIMEOUT_S)
            with Client(self._connection) as client:
                weights = model_weights(options.models, client, options.samples)
                if options.payload and len(weights) > 1:
                    raise InvalidInput(
                        f"--payload is for one model, and there are {len(weights)}: choose with --models"
                    )
                means = (options.samples, options.client_batch, options.payload)
                payloads = [payload(client, model, *means) for model in weights]
                self._before = counters.snapshot(client)
        except ToolError as error:
            self._refuse(error)
        self._sources = {encoded.model: encoded.source for encoded in payloads}
        plan = Plan(payloads, list(weights.values()), options.think_time)
        environment.triton_plan = plan  # type: ignore[attr-defined]

    def _refuse(self, error: ToolError) -> NoReturn:
        """End a test that cannot be run: the whole process where nobody can correct the options, else this test."""
        assert self._environment.runner is not None
        self._before = None
        self._environment.process_exit_code = error.exit_code
        if self._options.headless or self._is_worker:
            say(f"error: {error}")
            # Once it waits for the end of the test, Locust does not hear of a runner that quits.
            gevent.get_hub().parent.throw(SystemExit(error.exit_code))
        raise StopTest(f"error: {error}") from None

    def _stop(self, **_: Any) -> None:
        """Compare both sides, print and write the report, and set the exit code."""
        before, self._before = self._before, None
        if before is None or self._is_worker:
            return
        assert self._environment.runner is not None
        self._environment.runner.stop()  # After Ctrl-C, users are still running.
        options, counts = self._options, {}
        try:
            with Client(self._connection) as client:
                counts = counters.difference(before, counters.settled(client))
        except ClientError as error:
            say(f"error: the server's counters after the test: {error}")
        latencies, sources = self._latencies, self._sources
        result = report.swarm_result(self._environment, options, latencies, counts, sources, self._objectives)
        print(report.text(result), flush=True)
        self._environment.process_exit_code = int(not result.has_passed)
        try:
            if options.report:
                say(f"Report: {report.write(result, options.report)}")
        except OSError as error:
            say(f"error: the report cannot be written to {options.report}: {error.strerror or error}")
            self._environment.process_exit_code = ToolError.exit_code
