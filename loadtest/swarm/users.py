"""Virtual users that send prepared requests over HTTP or gRPC, one connection each.

The gRPC user follows Locust's gRPC example: time the call, then fire the request event with its outcome.
https://docs.locust.io/en/stable/testing-other-systems.html
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from locust import FastHttpUser, User, task

from clients.wire import channel_options
from loadtest.generator.grpc_lane import METHOD
from loadtest.generator.lane import size_outcome
from loadtest.payloads import Payload
from loadtest.records import ANSWERED

TIMEOUT_S = 30.0


class AnswerError(Exception):
    """The server answered with something other than the requested outputs."""


@dataclass(frozen=True)
class Plan:
    """What the users of one process send: payloads and their weights; made when a test starts."""

    payloads: Sequence[Payload]
    weights: Sequence[int]
    think_time: float

    def pick(self) -> tuple[Payload, bytes]:
        """Choose a model by weight, and one of its bodies."""
        (payload,) = random.choices(self.payloads, self.weights)
        return payload, random.choice(payload.bodies)


class _Planned:
    """A Locust user whose `environment` holds the plan that `loadtest.swarm.session` made."""

    environment: Any

    def wait_time(self) -> float:
        """Seconds between two requests of a user; Locust calls it."""
        return float(self.environment.triton_plan.think_time)


class TritonHttpUser(_Planned, FastHttpUser):
    """Sends binary tensors over one persistent HTTP connection."""

    # One connection per user is what a real client has.
    concurrency = 1
    network_timeout = connection_timeout = TIMEOUT_S

    @task
    def infer(self) -> None:
        """Send one request and check the size of its answer."""
        payload, body = self.environment.triton_plan.pick()
        with self.client.post(
            f"/v2/models/{payload.model}/infer",
            data=body,
            headers=payload.headers,
            name=payload.model,
            catch_response=True,
        ) as response:
            outcome = size_outcome(len(response.content or b""), payload.answer_bytes)
            if response.status_code != 200:
                outcome = f"HTTP {response.status_code}: {(response.text or response.error or '')!s:.200}"
            if outcome != ANSWERED:
                response.failure(AnswerError(outcome))


class TritonGrpcUser(_Planned, User):
    """Sends serialized ModelInferRequests over one gRPC channel."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        import grpc

        # Each user has a connection of its own, as a real fleet of clients has.
        self.channel = grpc.insecure_channel(self.host or "", options=channel_options(self.host or ""))
        # Requests are serialized beforehand and answers are only measured: no codec on either side.
        self.call = self.channel.unary_unary(METHOD)

    @task
    def infer(self) -> None:
        """Send one request and check the size of its answer."""
        import grpc

        payload, body = self.environment.triton_plan.pick()
        start, answer = time.perf_counter(), b""
        try:
            answer = self.call(body, timeout=TIMEOUT_S)
            outcome = size_outcome(len(answer), payload.answer_bytes)
        except grpc.RpcError as error:
            outcome = f"{error.code().name}: {error.details():.200}"
        self.environment.events.request.fire(
            request_type="POST",
            name=payload.model,
            response_time=(time.perf_counter() - start) * 1000,
            response_length=len(answer),
            exception=None if outcome == ANSWERED else AnswerError(outcome),
            context={},
        )

    def on_stop(self) -> None:
        """Close the channel."""
        self.channel.close()


USERS: dict[str, type[User]] = {"http": TritonHttpUser, "grpc": TritonGrpcUser}
