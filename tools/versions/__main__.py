"""Choose which version of a model is served: `python -m tools.versions NAME list|promote|rollback|prune|rollout`.

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

Without --url a server of its own verifies, and a running one serves the choice from its next load or start on; the
choice is where the folders lie, so it outlives every server. Exit code 0: done; 1: refused or rolled back, nothing has
changed for callers; 2: it could not be tried.
"""

import argparse
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from clients.client import Client
from clients.command import command, command_parser, positive, positive_float, print_json, say, text_table
from clients.connection import Connection
from clients.router.trial import MODES, Terms
from tools.repository import MANIFEST_FILE, held_versions, read_manifest, version_path
from tools.verify.options import add_repository_argument, add_verifier_arguments, verifier_from
from tools.verify.verification import recorded_verdict, report
from tools.versions import promotion, rollout
from tools.versions.candidates import RefusedError, candidate_name, every_version, serving
from tools.versions.promotion import LOAD_SECONDS, Promoted
from tools.versions.rollout import Plan

State = Literal["served", "kept", "held"]
_TERMS = {
    "share": "share of requests that take part",
    "min_agreement": "share of requests in which both must say the same",
    "max_errors": "share of requests that may go unanswered",
    "slower": "times as long that the candidate may take for half of the requests",
    "error": "how often the decision may be wrong",
}


@dataclass(frozen=True)
class VersionState:
    """One version of a model.

    Attributes:
        state: in the repository: served, kept for a rollback, or held, where Triton does not look.
        server: what the running server says, such as READY; None where it does not know the version.
        accuracy: on the test set, as its manifest has it.
        verified: whether it passed when it was last verified; None for never.
    """

    version: int
    state: State
    server: str | None
    accuracy: float | None
    verified: bool | None


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("tools.versions", __doc__)
    parser.add_argument("model", metavar="NAME", help="the model")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    described = actions.add_parser("list", help="show all versions")
    back = actions.add_parser("rollback", help="serve the version before the newest one again")
    for action, run in ((described, _list), (back, _rollback)):
        action.set_defaults(run=run)
        action.add_argument("--url", metavar="HOST:PORT", help="HTTP address of a running server (default: none)")
        add_repository_argument(action)
    pruned = actions.add_parser("prune", help="remove old versions")
    pruned.set_defaults(run=_prune)
    pruned.add_argument("--keep", type=positive, default=3, metavar="K", help="newest versions (default: %(default)s)")
    add_repository_argument(pruned)
    promoted = actions.add_parser("promote", help="verify a version, and serve it")
    tried = actions.add_parser("rollout", help="try a version on live traffic, and serve it or not")
    for action, run in ((promoted, _promote), (tried, _roll_out)):
        action.set_defaults(run=run)
        action.add_argument("version", nargs="?", type=positive, help="(default: the newest, served or held)")
        action.add_argument("--allow-worse", action="store_true", help="even if it is significantly less accurate")
        add_verifier_arguments(action)
    for action in (back, promoted, tried):
        action.add_argument("--public-key", type=Path, metavar="PUBLIC.pem", help="only what was signed (tools.sign)")
    _add_trial_arguments(tried.add_argument_group("the trial"))
    return parser


def _add_trial_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--no-verify", action="store_true", help="let live traffic alone decide")
    group.add_argument("--router", metavar="HOST:PORT", help="control address of a running router (default: its own)")
    group.add_argument("--listen", metavar="HOST:PORT", help="its own router's, for callers (default: a free port)")
    group.add_argument("--callers", type=positive, metavar="N", help="constant load of its own (default: none)")
    group.add_argument("--mode", choices=MODES, default=Terms.mode, help="(default: %(default)s)")
    for name, words in _TERMS.items():
        option, default = f"--{name.replace('_', '-')}", getattr(Terms, name)
        group.add_argument(option, type=float, default=default, metavar="X", help=f"{words} (default: %(default)s)")
    group.add_argument("--most", type=positive, default=Terms.most, metavar="N", help="pairs (default: %(default)s)")
    seconds = "seconds for a decision (default: %(default)g)"
    group.add_argument("--timeout", type=positive_float, default=Plan.timeout, metavar="S", help=seconds)


def _running(url: str | None) -> AbstractContextManager[Client | None]:
    """A client of the running server, if there is one."""
    return Client(Connection("http", url, timeout_s=LOAD_SECONDS)) if url else nullcontext()


def states(model: str, repository: Path, client: Client | None = None) -> list[VersionState]:
    """Describe all versions of a model, oldest first; with a client, also what its server says."""
    index = client.models() if client else []
    loaded = {str(entry.get("version")): entry.get("state") for entry in index if entry["name"] == model}
    held, newest, described = held_versions(model, repository), serving(model, repository), []
    for version in every_version(model, repository):
        state: State = "held" if version in held else "served" if version == newest else "kept"
        # One that was put there by hand has no manifest.
        has_manifest = (version_path(model, version, repository) / MANIFEST_FILE).is_file()
        accuracy = read_manifest(model, version, repository).get("accuracy") if has_manifest else None
        verified = recorded_verdict(model, version, repository)
        described.append(VersionState(version, state, loaded.get(str(version)), accuracy, verified))
    return described


def _list(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    with _running(arguments.url) as client:
        versions = states(arguments.model, arguments.repository, client)
    rows = [["version", "state", "accuracy", "verified", "on the server"]]
    for version in versions:
        accuracy = "-" if version.accuracy is None else f"{version.accuracy:.2%}"
        verified = {None: "-", True: "yes", False: "FAILED"}[version.verified]
        rows.append([str(version.version), version.state, accuracy, verified, version.server or "-"])
    print(text_table(rows))
    print_json({"model": arguments.model, "versions": [asdict(version) for version in versions]})
    return 0


def _rollback(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    with _running(arguments.url) as client:
        return _show(promotion.rollback(client, arguments.model, arguments.repository, arguments.public_key))


def _prune(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    removed = promotion.prune(arguments.model, arguments.keep, arguments.repository)
    print(f"{arguments.model}: removed {', '.join(map(str, removed)) or 'none'}")
    print_json({"model": arguments.model, "removed": removed})
    return 0


def _promote(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    model = arguments.model
    version = arguments.version or every_version(model, arguments.repository)[-1]
    with verifier_from(parser, arguments, [model]) as verifier:
        return _show(promotion.promote(verifier, model, version, arguments.allow_worse, arguments.public_key))


def _show(promoted: Promoted) -> int:
    instead = f" instead of version {promoted.before}" if promoted.before else ""
    gain = "" if promoted.difference is None else f"; accuracy {100 * promoted.difference:+.2f} points on the same rows"
    print(f"{promoted.model}: version {promoted.version} is served{instead}{gain}")
    print_json(promoted.document())
    return 0


def _roll_out(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    if arguments.router and (arguments.callers or arguments.listen):
        parser.error("--callers and --listen are of its own router: leave --router out, or send the load yourself")
    model = arguments.model
    version = arguments.version or every_version(model, arguments.repository)[-1]
    terms = {name: getattr(arguments, name) for name in ("mode", *_TERMS, "most")}
    plan = Plan(
        version,
        Terms(model, candidate_name(model, version), **terms),
        verify=not arguments.no_verify,
        allow_worse=arguments.allow_worse,
        public_key=arguments.public_key,
        timeout=arguments.timeout,
        router=arguments.router,
        listen=arguments.listen or Plan.listen,
        callers=arguments.callers or 0,
    )
    with verifier_from(parser, arguments, [model]) as verifier:
        result = rollout.roll_out(verifier, plan)
    print(result)
    print_json(result.document())
    return 0 if result.promoted else 1


@command(interrupted="a candidate is off the server, and what was served still is")
def main() -> int:
    """Do one action on the versions of a model."""
    parser = _parser()
    arguments = parser.parse_args()
    try:
        code: int = arguments.run(parser, arguments)
    except RefusedError as error:
        if error.verification:
            say(report([error.verification]))
        raise
    return code


if __name__ == "__main__":
    sys.exit(main())
