"""The options of a promotion over replicas, and of a trial on live traffic."""

import argparse
from typing import Any

from clients.command import duration, positive, positive_float, say
from clients.errors import ServerUnavailable
from clients.router.trial import MODES, Terms
from tools.verify.options import refuse_lone_grpc_url
from tools.versions.replicas import look, replicas_at
from tools.versions.waves import Fleet, grouped

_TERMS = {
    "min_agreement": "share of requests in which both must say the same",
    "max_errors": "share of requests that may go unanswered",
    "slower": "times as long that the candidate may take for half of the requests",
    "error": "how often the decision may be wrong",
}


def add_wave_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that `fleet_from` and `terms_from` read, but for the addresses."""
    add = parser.add_argument_group("several replicas").add_argument
    add("--waves", nargs="+", default=Fleet.ends, metavar="WAVE", help="how many have it after each, or which share")
    add("--bake", type=duration, default=Fleet.bake_s, metavar="S", help="how long a wave serves at least")
    add = parser.add_argument_group("what is accepted, of a wave or on live traffic").add_argument
    for name, words in _TERMS.items():
        add(f"--{name.replace('_', '-')}", type=float, default=getattr(Terms, name), metavar="X", help=words)
    add("--most", type=positive, default=Terms.most, metavar="N", help="pairs")
    add("--timeout", type=positive_float, default=Fleet.timeout_s, metavar="S", help="seconds for a decision")


def add_trial_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a trial on live traffic."""
    add = parser.add_argument_group("the trial").add_argument
    add("--no-verify", action="store_true", help="let live traffic alone decide")
    add("--router", metavar="HOST:PORT", help="control address of a running router (default: its own)")
    add("--listen", metavar="HOST:PORT", help="its own router's, for callers (default: a free port)")
    add("--listen-grpc", metavar="HOST:PORT", help="the same over gRPC (default: a free port)")
    add("--callers", type=positive, metavar="N", help="constant load of its own (default: none)")
    add("--mode", choices=MODES, default=Terms.mode, help="who gets the candidate's answer")
    add("--share", type=float, default=Terms.share, metavar="X", help="of the requests that take part")


def terms_from(arguments: argparse.Namespace) -> dict[str, Any]:
    """What is accepted, by the names of `Terms`."""
    return {name: getattr(arguments, name) for name in (*_TERMS, "most")}


def fleet_from(arguments: argparse.Namespace, terms: Terms) -> Fleet | None:
    """The replicas to promote, if --url names several; `arguments` then names the first that is there, and else as is.

    Raises:
        InvalidInput: an address or a wave is not usable.
        ServerUnavailable: none is there.
    """
    refuse_lone_grpc_url(arguments)
    replicas = there = replicas_at(arguments.url or (), arguments.grpc_url or ())
    if replicas[1:]:
        grouped(replicas, arguments.waves)
        standings = look(replicas, terms.model)
        for each in standings:
            if each.problem:
                say(f"{each.replica} is away, and is told at the end if it is back: {each.problem}")
        there = [each.replica for each in standings if not each.problem]
        if not there:
            raise ServerUnavailable(f"none of {len(replicas)} replicas answers")
    arguments.url, arguments.grpc_url = (there[0].http, there[0].grpc) if there else (None, None)
    if not replicas[1:]:
        return None
    return Fleet(replicas, terms, arguments.waves, arguments.bake, arguments.timeout, arguments.protocol)
