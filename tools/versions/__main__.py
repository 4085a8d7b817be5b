"""Choose which version of a model is served: `python -m tools.versions NAME list|promote|rollback|prune|rollout|sync`.

`promote` loads a new version beside the one that is served, warms and verifies it (`tools.verify`) and compares both
on the same held-out rows; only then the new one takes over, and not one request fails on the way. `rollout` also tries
it on a share of live traffic, through the router (`clients.router`). A version that fails is held: it lies in
`<model>/.held/`, where Triton does not look, and what was served before still is.

    python -m tools.export mnist_mlp --seed 1 --hold                  # a new version that no server finds by itself
    python -m tools.versions mnist_mlp list --url 127.0.0.1:8000
    python -m tools.versions mnist_mlp promote --url 127.0.0.1:8000   # the newest; a number names another
    python -m tools.versions mnist_mlp rollback --url 127.0.0.1:8000  # back to the one before, in a second
    python -m tools.versions mnist_mlp prune --keep 3
    python -m tools.versions mnist_mlp rollout --callers 4            # a server, router and callers of its own
    python -m tools.versions mnist_mlp rollout --url 127.0.0.1:8000 --router 127.0.0.1:8081 --mode shadow --share 0.05
    python -m tools.versions mnist_mlp promote --url 127.0.0.1:8000 127.0.0.1:8010 127.0.0.1:8020 --waves 1 50% 100%
    python -m tools.versions mnist_mlp sync --url triton-replicas:8000   # all addresses of a name; what was away

Several servers are promoted wave by wave. Each replica of a wave is compared with others; where one fails, all serve
again what they did before. Replicas that are away are reported, and `sync` brings them up.

Without --url a server of its own verifies, and a running one serves the choice from its next load or start on; the
choice is where the folders lie, so it outlives every server. Exit code 0: done; 1: refused or rolled back, nothing has
changed for callers but of a replica that is named, or (sync, rollback) a replica is away; 2: it could not be tried.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from clients.client import Client
from clients.command import command, command_parser, positive, print_json, say
from clients.connection import Connection
from clients.errors import InvalidInput
from clients.router.trial import Terms
from tools.verify.options import add_repository_argument, add_verifier_arguments, verifier_from
from tools.verify.report import text
from tools.versions import promotion, rollout
from tools.versions.candidates import LOAD_SECONDS, RefusedError, candidate_name, every_version, serving
from tools.versions.listing import replica_table, states, version_table
from tools.versions.options import add_trial_arguments, add_wave_arguments, fleet_from, terms_from
from tools.versions.promotion import Promoted
from tools.versions.replicas import Replica, Standing, look, replicas_at, sync
from tools.versions.rollout import Plan
from tools.versions.waves import WaveFailedError


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("tools.versions", __doc__)
    parser.add_argument("model", metavar="NAME", help="the model")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    described = actions.add_parser("list", help="show all versions, and what each replica serves")
    back = actions.add_parser("rollback", help="serve the version before the newest one again")
    synced = actions.add_parser("sync", help="have each replica serve what the repository says")
    for action, run in ((described, _list), (back, _rollback), (synced, _sync)):
        action.set_defaults(run=run)
        text = "HTTP addresses of running servers; all that a name has"
        action.add_argument("--url", nargs="+", metavar="HOST:PORT", required=run is _sync, help=text)
        add_repository_argument(action)
    pruned = actions.add_parser("prune", help="remove old versions")
    pruned.set_defaults(run=_prune)
    pruned.add_argument("--keep", type=positive, default=3, metavar="K", help="newest versions")
    add_repository_argument(pruned)
    promoted = actions.add_parser("promote", help="verify a version, and serve it")
    tried = actions.add_parser("rollout", help="try a version on live traffic, and serve it or not")
    for action, run in ((promoted, _promote), (tried, _roll_out)):
        action.set_defaults(run=run)
        action.add_argument("version", nargs="?", type=positive, help="(default: the newest, served or held)")
        action.add_argument("--allow-worse", action="store_true", help="even if it is significantly less accurate")
        add_verifier_arguments(action, several=True)
        add_wave_arguments(action)
    for action in (back, promoted, tried, synced):
        action.add_argument("--public-key", type=Path, metavar="PUBLIC.pem", help="only what was signed (tools.sign)")
    add_trial_arguments(tried)
    return parser


def _running(url: str | None) -> AbstractContextManager[Client | None]:
    """A client of the running server, if there is one."""
    return Client(Connection("http", url, timeout_s=LOAD_SECONDS)) if url else nullcontext()


def _list(arguments: argparse.Namespace) -> int:
    model, repository = arguments.model, arguments.repository
    replicas = replicas_at(arguments.url or ())
    with _running(replicas[0].http if len(replicas) == 1 else None) as client:
        versions = states(model, repository, client)
    standings = look(replicas, model) if replicas[1:] else []
    if standings:
        versions = [replace(version, server=_served_by(version.version, standings)) for version in versions]
    print(version_table(versions))
    document: dict[str, Any] = {"model": model, "versions": [asdict(version) for version in versions]}
    if standings:
        document["replicas"] = _show_standings(standings, serving(model, repository))
    print_json(document)
    return 0


def _served_by(version: int, standings: Sequence[Standing]) -> str | None:
    count = sum(each.version == version for each in standings)
    return f"{count} of {len(standings)}" if count else None


def _show_standings(standings: Sequence[Standing], wanted: int | None) -> list[dict[str, Any]]:
    """Print what each replica serves; returns it as JSON."""
    print(f"\n{replica_table(standings, wanted)}")
    return [
        {"url": each.replica.http, "serves": each.version, "differs": each.version != wanted, "problem": each.problem}
        for each in standings
    ]


def _rollback(arguments: argparse.Namespace) -> int:
    replicas = replicas_at(arguments.url or ())
    with _running(replicas[0].http if len(replicas) == 1 else None) as client:
        back = promotion.rollback(client, arguments.model, arguments.repository, arguments.public_key)
    if replicas[1:]:
        print(_told(back))
        return _bring_up(replicas, arguments, back.document())
    return _show(back)


def _sync(arguments: argparse.Namespace) -> int:
    return _bring_up(replicas_at(arguments.url), arguments, {"model": arguments.model})


def _bring_up(replicas: Sequence[Replica], arguments: argparse.Namespace, document: dict[str, Any]) -> int:
    """Have all replicas serve what the repository says; 1 if one does not."""
    standings = sync(replicas, arguments.model, arguments.repository, arguments.public_key)
    wanted = serving(arguments.model, arguments.repository)
    shown = _show_standings(standings, wanted)
    print_json(document | {"version": wanted, "replicas": shown})
    return int(any(each["differs"] for each in shown))


def _prune(arguments: argparse.Namespace) -> int:
    removed = promotion.prune(arguments.model, arguments.keep, arguments.repository)
    print(f"{arguments.model}: removed {', '.join(map(str, removed)) or 'none'}")
    print_json({"model": arguments.model, "removed": removed})
    return 0


def _promote(arguments: argparse.Namespace) -> int:
    model, allow_worse, public_key = arguments.model, arguments.allow_worse, arguments.public_key
    version = arguments.version or every_version(model, arguments.repository)[-1]
    fleet = fleet_from(arguments, Terms(model, model, **terms_from(arguments)))
    with verifier_from(arguments, [model]) as verifier:
        return _show(promotion.promote(verifier, model, version, allow_worse, public_key, fleet))


def _show(promoted: Promoted) -> int:
    print(_told(promoted))
    document = promoted.document()
    if promoted.waves:
        document["replicas"] = _show_standings(promoted.waves.replicas, promoted.version)
    print_json(document)
    return 0


def _told(promoted: Promoted) -> str:
    instead = f" instead of version {promoted.before}" if promoted.before else ""
    gain = "" if promoted.difference is None else f"; accuracy {100 * promoted.difference:+.2f} points on the same rows"
    return f"{promoted.model}: version {promoted.version} is served{instead}{gain}"


def _roll_out(arguments: argparse.Namespace) -> int:
    if arguments.router and (arguments.callers or arguments.listen or arguments.listen_grpc):
        raise InvalidInput(
            "--callers and --listen are of its own router: leave --router out, or send the load yourself"
        )
    model = arguments.model
    version = arguments.version or every_version(model, arguments.repository)[-1]
    terms = Terms(model, candidate_name(model, version), arguments.mode, arguments.share, **terms_from(arguments))
    plan = Plan(
        version,
        terms,
        verify=not arguments.no_verify,
        allow_worse=arguments.allow_worse,
        public_key=arguments.public_key,
        timeout=arguments.timeout,
        router=arguments.router,
        listen=arguments.listen or Plan.listen,
        listen_grpc=arguments.listen_grpc or Plan.listen_grpc,
        callers=arguments.callers or 0,
        fleet=fleet_from(arguments, terms),
    )
    with verifier_from(arguments, [model]) as verifier:
        result = rollout.roll_out(verifier, plan)
    print(result)
    document = result.document()
    if result.waves:
        document["replicas"] = _show_standings(result.waves.replicas, version)
    print_json(document)
    return 0 if result.promoted else 1


@command(interrupted="a candidate is off the server, and what was served still is")
def main() -> int:
    """Do one action on the versions of a model."""
    arguments = _parser().parse_args()
    try:
        code: int = arguments.run(arguments)
    except RefusedError as error:
        if error.verification:
            say(text([error.verification]))
        if isinstance(error, WaveFailedError):
            standings = _show_standings(error.waves.replicas, serving(arguments.model, arguments.repository))
            print_json({"model": arguments.model} | error.waves.document() | {"replicas": standings})
        raise
    return code


if __name__ == "__main__":
    sys.exit(main())
