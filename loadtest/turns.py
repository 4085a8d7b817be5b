"""An open loop with Locust: the schedule says when a request is due, and the users are the connections that carry it.

Every process makes the same schedule from the same seed and takes its own part of it, so that all workers together send
each request once. A user without anything to carry waits for the next turn; a turn that finds no free user is taken as
soon as one is free, its latency counting from when it was due.

    python -m loadtest.run --rate 300 --users 64 --run-time 30 --models mnist_mlp
    locust -f loadtest/locustfile.py --headless --rate 300 --users 64 --run-time 30 --models mnist_mlp --processes 2
"""

import time
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from hdrh.histogram import HdrHistogram

from clients.errors import InvalidInput
from loadtest.arrivals import SCHEDULES, Times, due_times, part_of
from loadtest.generator.priority import go_first
from loadtest.validity import OWN_SHARE

# From the start of a test to the first turn: by then workers have encoded their requests and have their users.
LEAD_S = 2.0
# From the last turn to the end: --run-time begins to count a little before the lead does.
TAIL_S = 1.0
# With workers: they report every three seconds, and a last report may come too late for the master.
WORKERS_TAIL_S = 3.5
# gevent's timers tick in milliseconds, so a little lateness is no sign of a busy process.
FLOOR_MS = 2.0
# Without --run-time a test lasts until somebody stops it; schedules have an end.
UNLIMITED_S = 3600.0
IDLE_S = 3600.0


class Turns:
    """The part of a schedule that one process sends, for one test.

    Attributes:
        record_late: called with the seconds by which an idle user was late, which is the generator's own doing.
    """

    def __init__(self, due: Sequence[float], record_late: Any):
        self.due = iter(due)
        self.record_late = record_late

    def take(self) -> float | None:
        """The next turn, a moment of time.perf_counter(); None when there is none left."""
        return next(self.due, None)


class Paced:
    """What makes a Locust user take turns; its `environment` has a plan with `turns`, or None for a closed loop."""

    environment: Any
    turn: float | None = None
    was_idle = True

    def wait_time(self) -> float:
        """Seconds until the next turn, or between two requests of a closed loop."""
        plan = self.environment.triton_plan
        if plan.turns is None:
            return float(plan.think_time)
        carried_before, self.turn = self.turn is not None, plan.turns.take()
        if self.turn is None:
            return IDLE_S
        wait = self.turn - time.perf_counter()
        # Late because it carried something until now: then the server kept it. Late at its first turn: then Locust did.
        self.was_idle = wait > 0 or not carried_before
        return max(0.0, wait)

    def begin(self) -> float | None:
        """The moment from which a request's latency counts; None where there is nothing to send yet."""
        now, turns = time.perf_counter(), self.environment.triton_plan.turns
        if turns is None:
            return now
        if self.turn is not None and self.was_idle:
            turns.record_late(now - self.turn)
        return self.turn


def is_open(options: Namespace) -> bool:
    """Whether a schedule is asked for."""
    return bool(options.rate) or options.arrivals not in SCHEDULES


def announce(options: Namespace, workers: Sequence[str]) -> None:
    """Put what all processes must agree on into the options, which a master sends to its workers.

    Raises:
        InvalidInput: the test is too short, or the schedule cannot be made.
    """
    margins = LEAD_S + (WORKERS_TAIL_S if workers else TAIL_S)
    seconds = float(options.run_time or UNLIMITED_S) - margins
    if seconds <= 0:
        raise InvalidInput(f"expected --run-time of more than {margins:g} s with --rate, got {options.run_time}")
    options.timetable = {"seconds": seconds, "start": time.time() + LEAD_S, "workers": list(workers)}
    schedule(options)


def schedule(options: Namespace) -> Times:
    """[requests] seconds from the first turn on: the whole schedule of the test."""
    seconds = options.timetable["seconds"]
    return due_times(options.arrivals, options.rate or None, seconds, options.seed)


def turns_of(options: Namespace, worker: str, record_late: Any) -> Turns:
    """One process's part. Clocks of several hosts should agree: a difference shifts the part as a whole."""
    workers, due = options.timetable["workers"] or [worker], schedule(options)
    go_first()
    part = part_of(due, workers.index(worker), len(workers)) if worker in workers else due[:0]
    start = time.perf_counter() + options.timetable["start"] - time.time()
    return Turns((part + start).tolist(), record_late)


def audit(options: Namespace, lateness: HdrHistogram, sent: int, p99_ms: float | None) -> dict[str, Any]:
    """What a test by a schedule says of itself.

    Args:
        options: of the test, with its timetable.
        lateness: microseconds by which idle users were late.
        sent: requests that were answered or failed.
        p99_ms: the latency that the lateness is weighed against.
    """
    passed = time.time() - options.timetable["start"]
    due = int((schedule(options) <= min(passed, options.timetable["seconds"])).sum())
    late_ms = lateness.get_value_at_percentile(99) / 1000 if lateness.get_total_count() else 0.0
    problems = []
    if due - sent > max(1, 0.001 * due):
        problems.append(f"{due - sent:,} of {due:,} requests were never sent: more --users, or a lower --rate")
    if late_ms > max(FLOOR_MS, OWN_SHARE * (p99_ms or 0.0)):
        problems.append(f"Locust itself was late by {late_ms:.3g} ms (p99); try more --processes")
    return {
        "loop": "open",
        "arrivals": options.arrivals,
        "rate": options.rate,
        "due": due,
        "lag_p99_ms": late_ms,
        "valid": not problems,
        "invalid_because": problems,
    }
