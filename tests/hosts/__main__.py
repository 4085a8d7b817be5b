"""Several hosts made of network namespaces, under constant load of both protocols: `python -m tests.hosts`.

Three replicas, the front door and the callers have an address each, on one bridge. A host is cut off (its link is taken
down), made slow, joins and leaves again; callers send on a schedule, without retries of their own. The balance is what
the replicas counted, in percent; a model is asked over HTTP, another one over gRPC. The last line of stdout is one JSON
document. Exit code 1: a request failed, or the balance took more than ten seconds to return; 2: there can be no such
hosts here, which takes root, or a kernel that lets anybody make namespaces.

With --capacity, no host has troubles: what tools.capacity predicts stands beside what one, two and three replicas
sustain. The hosts share one machine's processors, so that only replicas add up that sleep; mnist_mlp shows it.

    python -m tests.hosts
    python -m tests.hosts 'cut off' --seconds 2 5 5
    python -m tests.hosts --capacity
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from clients.command import command, command_parser, positive_float, print_json, say, text_table
from tests.hosts.capacity import OBJECTIVES, compare
from tests.hosts.cluster import door, replica
from tests.hosts.episodes import EPISODES, Stage, play, write_models
from tests.hosts.network import Host, connect, enter, slowness

_LIMIT_S = 10.0
_REPLICAS = 3


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("tests.hosts", __doc__)
    text = f"of {', '.join(EPISODES)} (default: all)"
    parser.add_argument("episodes", nargs="*", choices=[*EPISODES, []], metavar="EPISODE", help=text)
    text = "requests per second of each protocol (default: %(default)g)"
    parser.add_argument("--rate", type=positive_float, default=60.0, metavar="N", help=text)
    text = "before, meanwhile and afterwards (default: %(default)s)"
    parser.add_argument("--seconds", type=positive_float, nargs=3, default=(5.0, 10.0, 15.0), metavar="S", help=text)
    text = f"compare what is predicted with what is measured, of {' and '.join(OBJECTIVES)} (default: both)"
    parser.add_argument("--capacity", nargs="*", choices=[*OBJECTIVES], metavar="MODEL", help=text)
    text = "seconds of each search with --capacity (default: %(default)g)"
    parser.add_argument("--budget", type=positive_float, default=60.0, metavar="S", help=text)
    return parser


def _rows(arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    names = [f"replica{number}" for number in range(_REPLICAS)]
    *replicas, front, caller = connect([*names, "door", "caller"])
    if arguments.capacity is not None:
        return compare(arguments.capacity, replicas, front, caller, folder, arguments.budget)
    return _played(arguments, replicas, front, caller, folder)


def _played(
    arguments: argparse.Namespace, replicas: Sequence[Host], front: Host, caller: Host, folder: Path
) -> list[dict[str, Any]]:
    repository, rows = folder / "models", []
    write_models(repository)
    for name in arguments.episodes or EPISODES:
        episode = EPISODES[name]
        with ExitStack() as running:
            present = replicas if episode.is_there else replicas[:-1]
            for host in present:
                running.enter_context(replica(host, folder, repository))
            address = running.enter_context(door(front, present, folder, repository))
            stage = Stage(replicas, caller, address, folder, repository, arguments.rate, tuple(arguments.seconds))
            rows += [{"episode": name, **row} for row in play(stage, episode)]
        for row in rows[-2:]:
            say("  ".join(map(str, row.values())))
    return rows


def _has_failed(row: dict[str, Any]) -> bool:
    wanted = [row["even afterwards s"], *([] if EPISODES[row["episode"]].serves is None else [row["even again s"]])]
    return bool(row["failed"]) or any(seconds is None or seconds > _LIMIT_S for seconds in wanted)


@command()
def main() -> int:
    """Play the episodes, one after the other, each with servers of its own."""
    arguments = _parser().parse_args()
    enter("tests.hosts")
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        rows = _rows(arguments, Path(folder))
    print(text_table([list(rows[0]), *([str(value) for value in row.values()] for row in rows)]))
    print_json({"slow": slowness(), "hosts": rows})
    return int(arguments.capacity is None and any(map(_has_failed, rows)))


if __name__ == "__main__":
    sys.exit(main())
