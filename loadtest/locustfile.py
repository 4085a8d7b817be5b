"""Load-test a Triton server with Locust: `locust -f loadtest/locustfile.py` opens the web page on port 8089.

locust -f loadtest/locustfile.py --protocol grpc --models mnist_mlp,cifar10_cnn=2
locust -f loadtest/locustfile.py --headless --users 32 --spawn-rate 32 --run-time 30s --slo 'p99<50ms,errors<0.1%'
locust -f loadtest/locustfile.py --headless --rate 300 --users 64 --run-time 30s    # an open loop, see loadtest.turns
locust -f loadtest/locustfile.py --processes 2        # a master and two workers on this machine
"""

from typing import Any

import grpc.experimental.gevent
from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from clients.connection import PROTOCOLS
from loadtest.payloads import SAMPLES
from loadtest.report.closed_loop import REPORTS
from loadtest.session import Session

# Locust runs its users as greenlets: gRPC must yield to them instead of blocking the whole process.
grpc.experimental.gevent.init_gevent()


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    """Our options, on the command line and in the web page."""
    # Locust takes its user class when it starts, so the web page cannot change the protocol.
    parser.add_argument(
        "--protocol", choices=PROTOCOLS, default="http", help="(default: %(default)s)", include_in_web_ui=False
    )
    group = parser.add_argument_group("Triton options")
    group.add_argument("--models", help="names with weights, e.g. a,b=2 (default: all ready models, weight 1)")
    group.add_argument("--samples", default=str(SAMPLES), help="folder of sample images (default: %(default)s)")
    group.add_argument("--client-batch", type=int, default=1, help="inferences per request (default: 1)")
    group.add_argument("--think-time", type=float, default=0.0, help="seconds between a user's requests (default: 0)")
    group.add_argument("--rate", type=float, default=0.0, help="requests per second by a schedule (default: 0, none)")
    group.add_argument("--arrivals", default="poisson", help="poisson, constant, steps, ramp, spike or a file of times")
    group.add_argument("--seed", type=int, default=0, help="of the schedule (default: 0)")
    group.add_argument("--slo", default="", help="e.g. 'p99<50ms,errors<0.1%%'; the exit code is 1 when missed")
    group.add_argument("--report", default=str(REPORTS), help="folder of the reports (default: %(default)s)")


@events.init.add_listener
def begin(environment: Environment, **_: Any) -> None:
    """Tie this process to the server under test."""
    Session(environment)


# Locust looks for user classes in this file; the session keeps the one of the chosen protocol.
from loadtest.users import TritonGrpcUser, TritonHttpUser  # noqa: E402, F401
