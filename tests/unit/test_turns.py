"""The open loop of Locust's users: who sends what and when, and from when a latency counts."""

import time
from argparse import Namespace
from typing import Any

import numpy as np
import pytest

from clients.errors import InvalidInput
from loadtest.latencies import empty, record
from loadtest.turns import IDLE_S, LEAD_S, Paced, Turns, announce, audit, is_open, schedule, turns_of


def options(**changes: Any) -> Namespace:
    """Locust's options, as far as they matter here."""
    return Namespace(**{"rate": 50.0, "arrivals": "poisson", "seed": 1, "run_time": 30, "timetable": None, **changes})


def user(due: list[float], late: list[float]) -> Paced:
    paced = Paced()
    paced.environment = Namespace(triton_plan=Namespace(turns=Turns(due, late.append), think_time=0.0))
    return paced


def test_all_workers_together_send_each_request_of_the_schedule_once() -> None:
    settled = options()
    announce(settled, ["a", "b", "c"])
    start = settled.timetable["start"] - time.time() + time.perf_counter()
    parts = [list(turns_of(settled, name, print).due) for name in ("a", "b", "c")]
    assert sorted(np.concatenate(parts) - start) == pytest.approx(schedule(settled).tolist(), abs=0.01)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert not list(turns_of(settled, "came later", print).due)


def test_a_single_process_sends_everything_within_the_time_of_the_test() -> None:
    settled = options()
    announce(settled, [])
    due = np.array(list(turns_of(settled, "", print).due)) - time.perf_counter()
    assert len(due) == len(schedule(settled))
    assert due[0] > LEAD_S - 0.5 and due[-1] < 30


def test_a_user_waits_for_its_turn_and_counts_from_it() -> None:
    late: list[float] = []
    due = time.perf_counter() + 0.5
    paced = user([due], late)
    assert paced.begin() is None  # Locust begins with a task; there is no turn yet.
    assert 0.4 < paced.wait_time() <= 0.5
    assert paced.begin() == due and len(late) == 1
    assert paced.wait_time() == IDLE_S and paced.begin() is None


def test_lateness_is_the_users_own_at_its_first_turn_and_the_servers_when_it_was_kept_busy() -> None:
    late: list[float] = []
    now = time.perf_counter()
    paced = user([now - 2, now - 1], late)
    assert paced.wait_time() == 0 and paced.begin() == now - 2
    assert late == [pytest.approx(2, abs=0.1)]
    assert paced.wait_time() == 0 and paced.begin() == now - 1
    assert len(late) == 1


@pytest.mark.parametrize(
    ("sent", "late_ms", "words"),
    [
        (100, 0.5, None),
        (80, 0.5, "20 of 100 requests were never sent"),
        (100, 9.0, "Locust itself was late by 9.01 ms"),
    ],
)
def test_a_test_says_when_its_figures_are_not_the_servers(sent: int, late_ms: float, words: str | None) -> None:
    ended = options(arrivals="constant")
    ended.timetable = {"seconds": 2.0, "start": time.time() - 5, "workers": []}
    lateness = empty()
    for _ in range(100):
        record(lateness, late_ms)
    found = audit(ended, lateness, sent, p99_ms=20.0)
    assert found["due"] == 100 and found["valid"] is (words is None)
    assert words is None or words in found["invalid_because"][0]


def test_a_closed_loop_is_what_locust_does_unasked_and_a_test_shorter_than_its_margins_is_refused() -> None:
    assert not is_open(options(rate=0.0)) and is_open(options()) and is_open(options(rate=0.0, arrivals="trace.txt"))
    with pytest.raises(InvalidInput, match="--run-time of more than"):
        announce(options(run_time=2), [])
