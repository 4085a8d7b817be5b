"""Try a new version on live traffic, and let it take over or not: `python -m tools.rollout NAME`.

The candidate is loaded beside the served version, verified and compared with it, as `tools.versions` does. Then a share
of the requests that come through the router (`clients.router`) is answered by both: in a canary callers get the
candidate's answers, in a shadow they are only compared. Sequential tests watch errors, agreement and latency; as soon
as they are sure, the version is promoted, or taken off the server and held. No request fails for it: where the
candidate leaves one unanswered, the served version answers.

    python -m tools.export mnist_mlp --seed 1 --hold
    python -m tools.rollout mnist_mlp --callers 4          # on a server, a router and with callers of its own
    python -m tools.rollout mnist_mlp --url 127.0.0.1:8000 --router 127.0.0.1:8081 --mode shadow --share 0.05

--router is the control address of a running router, whose callers decide; without it one is started at --listen for
as long as this lasts. Exit code 0: promoted; 1: rolled back or refused; 2: it could not be tried.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from clients.client import Client
from clients.command import positive, say
from clients.connection import Connection
from clients.router.trial import MODES, Terms
from tools.verify.__main__ import UNTRIED
from tools.verify.effort import add_effort_arguments
from tools.verify.heldout import held_out
from tools.verify.verification import Verifier
from tools.verify.verification_table import report
from tools.versions import __main__ as versions
from tools.versions import candidates, promotion
from tools.versions.callers import Calls, calling
from tools.versions.examination import RefusedError, examine, refuse_worse
from tools.versions.router_control import Document, Router, RouterError, router_of_its_own

POLL_SECONDS = 0.1
# Callers of our own stay for so long before and after, so that both ends of the rollout are seen under load.
LINGER_SECONDS = 0.5


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="python -m tools.rollout", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", metavar="NAME")
    parser.add_argument("--candidate", type=positive, metavar="VERSION", help="(default: the newest, served or held)")
    versions.add_server_arguments(parser)
    parser.add_argument("--router", metavar="HOST:PORT", help="control address of a running router (default: its own)")
    parser.add_argument("--listen", default="127.0.0.1:0", help="of its own router, for callers (default: a free port)")
    parser.add_argument("--callers", type=int, default=0, metavar="N", help="constant load of our own (default: none)")
    parser.add_argument("--no-verify", action="store_true", help="let live traffic alone decide")
    parser.add_argument(
        "--allow-worse", action="store_true", help="try a version that is less accurate on held-out rows"
    )
    parser.add_argument("--timeout", type=float, default=600, metavar="S", help="for a decision (default: 600)")
    add_terms(parser.add_argument_group("the trial"))
    add_effort_arguments(parser)
    return parser


def add_terms(group: argparse._ArgumentGroup) -> None:
    """The options that say what a candidate has to stand."""
    group.add_argument("--mode", choices=MODES, default=Terms.mode, help="(default: %(default)s)")
    for name, words in (
        ("share", "of the requests that take part"),
        ("min-agreement", "share of requests in which both must say the same"),
        ("max-errors", "share of requests that may go unanswered"),
        ("slower", "times as long that the candidate may take for half of the requests"),
        ("error", "how often the decision may be wrong"),
    ):
        default = getattr(Terms, name.replace("-", "_"))
        group.add_argument(
            f"--{name}", type=float, default=default, metavar="X", help=f"{words} (default: {default:g})"
        )
    group.add_argument("--most", type=positive, default=Terms.most, metavar="N", help="pairs (default: %(default)s)")


def terms_from(arguments: argparse.Namespace, candidate: str) -> Document:
    """What the router is told."""
    names = ("mode", "share", "min_agreement", "max_errors", "slower", "error", "most")
    return {"candidate": candidate, **{name: getattr(arguments, name) for name in names}}


def decided(router: Router, model: str, terms: Document, timeout: float) -> Document:
    """Have a trial and wait for its decision; the trial with its evidence, over in any case.

    Raises:
        RouterError: the router went away.
    """
    router.ask("PUT", model, terms)
    deadline = time.monotonic() + timeout
    shown = 0
    try:
        while (trial := router.ask("GET").get(model, {})).get("decision") is None and time.monotonic() < deadline:
            if trial and trial["pairs"] >= 2 * shown + 100:
                shown = trial["pairs"]
                say(f"{model}: {shown} requests answered by both; {rates(trial)}")
            time.sleep(POLL_SECONDS)
    finally:
        # Only when no request is under way may the candidate be unloaded.
        over = router.ask("DELETE", model)
    return over if over["decision"] else {**over, "decision": "roll back", "reason": f"no decision in {timeout:g} s"}


def rates(trial: Document) -> str:
    """How often something failed, in words."""
    return ", ".join(f"{name} {test['failures']}/{test['observations']}" for name, test in trial["tests"].items())


def roll_out(arguments: argparse.Namespace, verifier: Verifier, client: Client, router: Router) -> Document:
    """Load, verify, try, and promote or roll back.

    Raises:
        RefusedError: it failed its verification, or could not take over; what was served still is.
    """
    model, repository = arguments.model, verifier.repository
    version = arguments.candidate or promotion.every_version(model, repository)[-1]
    with promotion.beside(client, model, version, repository, arguments.public_key) as (name, before):
        if not arguments.no_verify:
            verification, gain = examine(verifier, model, name, version, before, repository)
            if not arguments.allow_worse:
                refuse_worse(model, version, before, verification, gain)
        say(f"{model} version {version} stands beside version {before}: {arguments.mode}, share {arguments.share:g}")
        trial = decided(router, model, terms_from(arguments, name), arguments.timeout)
    if trial["decision"] == "promote":
        promotion.switch(client, model, version, repository)
    return {"model": model, "candidate": version, "before": before, "trial": trial}


def served(arguments: argparse.Namespace, verifier: Verifier) -> Document:
    """The rollout with a router, and with callers where they are asked for; what it led to."""
    upstream = verifier.reached["http"].url
    with ExitStack() as stack:
        own = router_of_its_own(upstream, arguments.listen)
        router = Router(arguments.router) if arguments.router else stack.enter_context(own)
        client = stack.enter_context(verifier.client(timeout_s=promotion.LOAD_SECONDS))
        if router.listen:
            say(f"callers go to http://{router.listen}")
        calls = stack.enter_context(own_callers(arguments, verifier, router))
        document = roll_out(arguments, verifier, client, router)
        time.sleep(LINGER_SECONDS if arguments.callers else 0)
        document["served"] = candidates.served_version(client, arguments.model)
        candidates.settle(client)
    if arguments.callers:
        document["callers"] = {"answered": calls.answered, "failed": len(calls.failures), "why": calls.failures[:3]}
    return document


@contextmanager
def own_callers(arguments: argparse.Namespace, verifier: Verifier, router: Router) -> Iterator[Calls]:
    """Callers with the held-out rows, where they are asked for."""
    if not arguments.callers:
        yield Calls()
        return
    if not router.listen:
        raise RouterError("--callers need a router of our own; leave --router out, or send the load yourself")
    version = promotion.serving(arguments.model, verifier.repository)
    assert version is not None
    held = held_out(arguments.model, version, verifier.repository)[0]
    connection = Connection("http", router.listen, retries=0)
    with calling(connection, arguments.model, held.inputs, arguments.callers) as calls:
        time.sleep(LINGER_SECONDS)
        yield calls


def main() -> int:
    """Entry point."""
    arguments = parser().parse_args()
    repository = arguments.repository.resolve()
    try:
        with versions.verifier(arguments, repository) as verifier:
            document = served(arguments, verifier)
    except RefusedError as error:
        if error.verification and not error.verification.passed:
            print(report([error.verification]), file=sys.stderr)
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (*UNTRIED, RouterError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; the candidate is off the server", file=sys.stderr)
        return 130
    print(summary(document))
    print(json.dumps(document, separators=(",", ":")))
    return 0 if document["trial"]["decision"] == "promote" else 1


def summary(document: Document) -> str:
    """What came of it, for people."""
    trial = document["trial"]
    what = "promoted" if trial["decision"] == "promote" else "rolled back and held"
    lines = [f"{document['model']} version {document['candidate']} {what}: {trial['reason']} ({rates(trial)})"]
    lines.append(f"served now: version {document['served']}")
    if "callers" in document:
        calls = document["callers"]
        lines.append(f"callers: {calls['answered']:,} requests answered, {calls['failed']} failed")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
