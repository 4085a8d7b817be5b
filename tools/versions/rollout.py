"""A new version tried on live traffic, and promoted or rolled back by what a share of it shows.

The candidate is loaded beside the served version and examined, as for a promotion. Then both answer a share of the
requests that come through the router (`clients.router`). Sequential tests watch errors, agreement and latency; as soon
as they are sure, the version is promoted, or taken off the server and held. No request fails because of it.
"""

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clients.aio import AsyncClient
from clients.command import say
from clients.connection import Connection
from clients.errors import ClientError
from clients.router.trial import Terms
from tools.serve.router_process import RouterError
from tools.versions.candidates import beside, served_version, serving, settle
from tools.versions.promotion import LOAD_SECONDS, examine, switch
from tools.versions.router_control import Router, Trial, started_router

if TYPE_CHECKING:
    from tools.verify.verifier import Verifier

# Callers of our own stay for so long before and after, so that both ends of the rollout are seen under load.
_LINGER_SECONDS = 0.5


@dataclass(frozen=True)
class Plan:
    """How a candidate is tried.

    Attributes:
        verify: examine the candidate first; otherwise live traffic alone decides.
        allow_worse: try it even if it is significantly less accurate on held-out rows.
        public_key: try it only if it was signed with the private key to this one.
        timeout: seconds for a decision.
        router: control address of a running router; None starts one that listens at `listen`.
        callers: constant load of our own through a router that was started; 0 for none.
    """

    version: int
    terms: Terms
    verify: bool = True
    allow_worse: bool = False
    public_key: Path | None = None
    timeout: float = 600.0
    router: str | None = None
    listen: str = "127.0.0.1:0"
    callers: int = 0


@dataclass
class Calls:
    """How many requests of our own callers were answered, and why the others were not."""

    answered: int = 0
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Rollout:
    """What came of a rollout: the versions before and after it, the trial's evidence, and what our own callers saw."""

    model: str
    candidate: int
    before: int | None
    trial: Trial
    served: int | None
    calls: Calls | None

    @property
    def promoted(self) -> bool:
        """Whether the candidate took over."""
        return self.trial["decision"] == "promote"

    def document(self) -> dict[str, Any]:
        """The rollout as JSON."""
        document = dict(vars(self))
        if calls := document.pop("calls"):
            failures = calls.failures
            document["callers"] = {"answered": calls.answered, "failed": len(failures), "why": failures[:3]}
        return document

    def __str__(self) -> str:
        verdict = "promoted" if self.promoted else "rolled back and held"
        lines = [f"{self.model} version {self.candidate} {verdict}: {self.trial['reason']} ({_rates(self.trial)})"]
        lines.append(f"served now: version {self.served}")
        if self.calls:
            lines.append(f"callers: {self.calls.answered:,} requests answered, {len(self.calls.failures)} failed")
        return "\n".join(lines)


def roll_out(verifier: "Verifier", plan: Plan) -> Rollout:
    """Load and examine a version, try it on live traffic, and promote it or roll it back.

    Raises:
        RefusedError: it failed its examination or to load; what was served still is.
        RouterError: the router does not start, refuses the trial, or went away.
    """
    model, version = plan.terms.model, plan.version
    with ExitStack() as stack:
        upstream = verifier.connections["http"].url
        router = Router(plan.router) if plan.router else stack.enter_context(started_router(upstream, plan.listen))
        client = stack.enter_context(verifier.client(timeout_s=LOAD_SECONDS))
        if router.listen:
            say(f"callers go to http://{router.listen}")
        calls = stack.enter_context(_own_callers(plan, verifier, router)) if plan.callers else None
        with beside(client, model, version, verifier.repository, plan.public_key) as candidate:
            if plan.verify:
                examine(verifier, candidate, plan.allow_worse)
            say(f"{candidate} runs beside version {candidate.before}: {plan.terms.mode}, share {plan.terms.share:g}")
            trial = _try(router, plan)
        if trial["decision"] == "promote":
            switch(client, model, version, verifier.repository)
        time.sleep(_LINGER_SECONDS if plan.callers else 0)
        served = served_version(client, model)
        settle(client)
    return Rollout(model, version, candidate.before, trial, served, calls)


@contextmanager
def _own_callers(plan: Plan, verifier: "Verifier", router: Router) -> Iterator[Calls]:
    """Keep one request of each caller in flight through the router, a row of the held-out set at a time."""
    from tools.verify.references import held_out  # It imports torch, which `--help` can do without.

    model, version = plan.terms.model, serving(plan.terms.model, verifier.repository)
    if not router.listen or version is None:
        raise RouterError("callers of our own need a router of our own and a version that is served")
    held = held_out(model, version, verifier.repository)[0]
    places = itertools.cycle(range(held.rows))
    calls, stop = Calls(), threading.Event()

    async def call() -> None:
        # Without retries, which would hide a failed request.
        async with AsyncClient(Connection("http", str(router.listen), retries=0)) as client:
            while not stop.is_set():
                place = next(places)
                try:
                    await client.infer(model, {name: array[place : place + 1] for name, array in held.inputs.items()})
                    calls.answered += 1
                except ClientError as error:
                    calls.failures.append(str(error))
                    await asyncio.sleep(0.01)

    async def call_all() -> None:
        await asyncio.gather(*(call() for _ in range(plan.callers)))

    thread = threading.Thread(target=lambda: asyncio.run(call_all()))
    thread.start()
    try:
        time.sleep(_LINGER_SECONDS)
        yield calls
    finally:
        stop.set()
        thread.join()


def _try(router: Router, plan: Plan) -> Trial:
    """Hold a trial until there is a decision, or no time left; it is over in any case."""
    model, deadline, next_report = plan.terms.model, time.monotonic() + plan.timeout, 100
    router.begin(model, asdict(plan.terms))
    try:
        while (trial := router.trial(model)) and not trial["decision"] and time.monotonic() < deadline:
            if trial["pairs"] >= next_report:
                next_report = 2 * trial["pairs"]
                say(f"{model}: {trial['pairs']} requests answered by both; {_rates(trial)}")
            time.sleep(0.1)
    finally:
        # Only when no request is in flight may the candidate be unloaded.
        trial = router.end(model)
    if not trial["decision"]:
        trial |= {"decision": "roll back", "reason": f"no decision in {plan.timeout:g} s"}
    return trial


def _rates(trial: Trial) -> str:
    return ", ".join(f"{name} {test['failures']}/{test['observations']}" for name, test in trial["tests"].items())
