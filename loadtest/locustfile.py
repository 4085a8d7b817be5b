"""Load-test a Triton server with Locust: `locust -f loadtest/locustfile.py` opens the web page on port 8089.

locust -f loadtest/locustfile.py --protocol grpc --models mnist_mlp,cifar10_cnn=2
locust -f loadtest/locustfile.py --headless --users 32 --spawn-rate 32 --run-time 30s --slo 'p99<50ms,errors<0.1%'
locust -f loadtest/locustfile.py --processes 2        # a master and two workers on this machine
"""

import os
import sys
from functools import partial
from pathlib import Path

import grpc.experimental.gevent
from locust import events

# Locust may be run in another folder.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from clients.lifetime import end_with
from loadtest.swarm.options import add_swarm_options
from loadtest.swarm.session import Session

# Locust looks for user classes in this file; the session keeps the one of the chosen protocol.
from loadtest.swarm.users import TritonGrpcUser, TritonHttpUser  # noqa: F401

# Locust runs its users as greenlets: gRPC must yield to them instead of blocking the whole process.
grpc.experimental.gevent.init_gevent()

# With --processes, Locust forks its workers, which would go on alone if it were killed.
os.register_at_fork(after_in_child=partial(end_with, os.getpid()))

events.init_command_line_parser.add_listener(add_swarm_options)
events.init.add_listener(Session)
