"""Whatever ends a long command, and when: nothing goes on without it, and what was there before still is.

`python -m tests.kills` does this for every command at many moments.
"""

import signal

import pytest

from tests.kills.cases import CASES
from tests.kills.endings import SIGNALS, end
from tools.serve.tritonserver import Server

TERM, KILL, _, HUP = SIGNALS
# Of the time that they have a connection.
MOMENTS = [("loadtest.run", 0.5, TERM), ("loadtest.run", 1.0, KILL), ("loadtest.swarm", 1.0, TERM)]
MOMENTS += [("locust", 1.0, KILL), ("tools.serve --run", 2.0, HUP)]


@pytest.mark.parametrize(("name", "moment", "number"), MOMENTS)
def test_nothing_is_left_of_a_command_that_is_ended(
    name: str, moment: float, number: signal.Signals, server: Server
) -> None:
    addresses = {"TRITON_HTTP_URL": server.http, "TRITON_GRPC_URL": server.grpc}
    ending = end(CASES[name], number, moment, addresses, talks=True)
    assert not ending.left
    # Locust and a server report what they have when they are stopped.
    assert ending.code in (130, 0) if number != KILL else ending.code == -KILL
