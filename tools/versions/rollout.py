"""A new version tried on live traffic, and promoted or rolled back by what a share of it shows.

The candidate is loaded beside the served version and examined, as for a promotion. Then both answer a share of the
requests that come through the router (`clients.router`). Sequential tests watch errors, agreement and latency; as soon
as they are sure, the version is promoted, or taken off the server and held. No request fails because of it.
"""

import time
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clients.command import say
from clients.connection import PROTOCOLS
from clients.router.trial import Terms
from tools.versions.callers import LINGER_SECONDS, Calls, own_callers
from tools.versions.candidates import LOAD_SECONDS, beside, served_version, settle
from tools.versions.promotion import examine, take_over
from tools.versions.router_control import ANY_PORT, Router, Trial, started_router
from tools.versions.waves import Fleet, Waves

if TYPE_CHECKING:
    from tools.verify.verifier import Verifier


@dataclass(frozen=True)
class Plan:
    """How a candidate is tried.

    Attributes:
        verify: examine the candidate first; otherwise live traffic alone decides.
        allow_worse: try it even if it is significantly less accurate on held-out rows.
        public_key: try it only if it was signed with the private key to this one.
        timeout: seconds for a decision.
        router: control address of a running router; None starts one that listens at `listen` and `listen_grpc`.
        callers: constant load of our own through a router that was started; 0 for none.
        fleet: replicas that serve it wave by wave once traffic to the first one has promoted it.
    """

    version: int
    terms: Terms
    verify: bool = True
    allow_worse: bool = False
    public_key: Path | None = None
    timeout: float = 600.0
    router: str | None = None
    listen: str = ANY_PORT
    listen_grpc: str = ANY_PORT
    callers: int = 0
    fleet: Fleet | None = None


@dataclass(frozen=True)
class Rollout:
    """What came of a rollout: the versions before and after it, the trial's evidence, and what our own callers saw."""

    model: str
    candidate: int
    before: int | None
    trial: Trial
    served: int | None
    calls: Calls | None
    waves: Waves | None = None

    @property
    def promoted(self) -> bool:
        """Whether the candidate took over."""
        return bool(self.trial["decision"] == "promote")

    def document(self) -> dict[str, Any]:
        """The rollout as JSON."""
        document = dict(vars(self))
        if waves := document.pop("waves"):
            document |= waves.document()
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
        router = Router(plan.router) if plan.router else stack.enter_context(_own_router(verifier, plan))
        client = stack.enter_context(verifier.client(timeout_s=LOAD_SECONDS))
        if router.listen:
            say(f"callers go to http://{router.listen} and, over gRPC, to {router.listen_grpc}")
        calls = stack.enter_context(own_callers(plan.callers, model, verifier, router)) if plan.callers else None
        with beside(client, model, version, verifier.repository, plan.public_key) as candidate:
            if plan.verify:
                examine(verifier, candidate, plan.allow_worse)
            say(f"{candidate} runs beside version {candidate.before}: {plan.terms.mode}, share {plan.terms.share:g}")
            trial = _try(router, plan)
        waves = None
        if trial["decision"] == "promote":
            waves = take_over(verifier, client, candidate, plan.fleet)
        time.sleep(LINGER_SECONDS if plan.callers else 0)
        served = served_version(client, model)
        settle(client)
    return Rollout(model, version, candidate.before, trial, served, calls, waves)


def _own_router(verifier: "Verifier", plan: Plan) -> AbstractContextManager[Router]:
    http, grpc = (verifier.connections[protocol].url for protocol in PROTOCOLS)
    return started_router(http, grpc, plan.listen, plan.listen_grpc)


def _try(router: Router, plan: Plan) -> Trial:
    """Hold a trial until there is a decision, or no time left; it is over in any case."""
    model, deadline, next_report = plan.terms.model, time.monotonic() + plan.timeout, 100
    router.begin(model, asdict(plan.terms))
    try:
        while (trial := router.trial(model)) and not trial["decision"] and time.monotonic() < deadline:
            if trial["pairs"] >= next_report:
                next_report = 2 * trial["pairs"]
                ways = ", ".join(f"{count} over {protocol}" for protocol, count in trial["protocols"].items())
                say(f"{model}: {trial['pairs']} requests answered by both ({ways}); {_rates(trial)}")
            time.sleep(0.1)
    finally:
        # Only when no request is in flight may the candidate be unloaded.
        trial = router.end(model)
    if not trial["decision"]:
        trial |= {"decision": "roll back", "reason": f"no decision in {plan.timeout:g} s"}
    return trial


def _rates(trial: Trial) -> str:
    return ", ".join(f"{name} {test['failures']}/{test['observations']}" for name, test in trial["tests"].items())
