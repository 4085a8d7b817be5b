"""Virtual users that send prepared requests over HTTP or gRPC, one connection each.

The gRPC user follows the pattern of Locust's gRPC example: time the call, then fire the request event with what came
of it. https://docs.locust.io/en/stable/testing-other-systems.html
"""

import random
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from locust import FastHttpUser, User, task

from loadtest.turns import Paced

if TYPE_CHECKING:
    from loadtest.payloads import Payload
    from loadtest.turns import Turns

GRPC_METHOD = "/inference.GRPCInferenceService/ModelInfer"
TIMEOUT_S = 30.0


class AnswerError(Exception):
    """The server answered, but not with what was asked for."""


class Plan:
    """What the users of one process send: payloads and their weights; prepared when a test starts."""

    def __init__(
        self,
        payloads: "Sequence[Payload]",
        weights: Sequence[int],
        think_time: float,
        turns: "Turns | None" = None,
    ):
        self.payloads = payloads
        self.weights = weights
        self.think_time = think_time
        self.turns = turns  # None: a closed loop

    def pick(self) -> "tuple[Payload, bytes]":
        """A model by weight, and one of its bodies."""
        (payload,) = random.choices(self.payloads, self.weights)
        return payload, random.choice(payload.bodies)


def plan_of(user: User) -> Plan:
    """The plan that `loadtest.session` left with the environment."""
    plan: Plan = user.environment.triton_plan
    return plan


class TritonHttpUser(Paced, FastHttpUser):
    """Sends binary tensors over one kept-alive HTTP connection."""

    # One connection per user is what a real client has; it also keeps the count of open sockets at that of the users.
    concurrency = 1
    network_timeout = connection_timeout = TIMEOUT_S

    @task
    def infer(self) -> None:
        """Send one request and see that its answer carries the outputs."""
        since = self.begin()
        if since is None:
            return
        late_ms = (time.perf_counter() - since) * 1000
        payload, body = plan_of(self).pick()
        path = f"/v2/models/{payload.model}/infer"
        with self.client.post(
            path,
            data=body,  # type: ignore[arg-type]  # Locust hands bytes on as they are, whatever its annotation says
            headers=payload.headers,
            name=payload.model,
            catch_response=True,
        ) as response:
            response.request_meta["response_time"] += late_ms
            if response.status_code != 200:
                response.failure(
                    AnswerError(f"HTTP {response.status_code}: {(response.text or response.error or '')!s:.200}")
                )
            elif len(response.content or b"") < payload.answer_bytes:
                response.failure(AnswerError(f"{len(response.content or b'')} bytes are too few for the outputs"))


class TritonGrpcUser(Paced, User):
    """Sends serialised ModelInferRequests over one gRPC channel."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        import grpc

        # Without its own pool all users would share one connection, which a real fleet of clients does not.
        self.channel = grpc.insecure_channel(self.host or "", options=[("grpc.use_local_subchannel_pool", 1)])
        # Requests are serialised already and answers are only measured: no coder on either side.
        self.call = self.channel.unary_unary(GRPC_METHOD)

    @task
    def infer(self) -> None:
        """Send one request and see that its answer carries the outputs."""
        import grpc

        since = self.begin()
        if since is None:
            return
        payload, body = plan_of(self).pick()
        answer, problem = b"", None
        try:
            answer = self.call(body, timeout=TIMEOUT_S)
            if len(answer) < payload.answer_bytes:
                problem = AnswerError(f"{len(answer)} bytes are too few for the outputs")
        except grpc.RpcError as error:
            problem = AnswerError(f"{error.code().name}: {error.details():.200}")
        self.environment.events.request.fire(
            request_type="POST",
            name=payload.model,
            response_time=(time.perf_counter() - since) * 1000,
            response_length=len(answer),
            exception=problem,
            context={},
        )

    def on_stop(self) -> None:
        """Close the channel."""
        self.channel.close()


USERS: dict[str, type[User]] = {"http": TritonHttpUser, "grpc": TritonGrpcUser}
