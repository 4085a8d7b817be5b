"""A front door before servers on other hosts, and what any door needs: API keys, certificates, a configuration.

`python -m tools.serve --front HOST:PORT` runs a door before replicas on the same host.

    python -m tools.front keys add keys.map alice --rate 100   # prints the key, which is stored nowhere
    python -m tools.front keys revoke keys.map alice           # at once, a running door reads the file again
    python -m tools.front certificates build/tls --host 127.0.0.1
    python -m tools.front run build/front --front 0.0.0.0:8443 --backend a=10.0.0.1:8000,10.0.0.1:8001,8005
    python -m tools.front config build/front --front 0.0.0.0:8443 --backend triton=triton:8000,triton:8001
    python -m tools.front config build/front --front 0.0.0.0:8443 --server triton:8001 \
        --backend pod=triton:8000,triton:8001 --addresses 10       # up to ten replicas that share a name
"""

import argparse
import math
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from clients.command import command, command_parser, positive, say, text_table
from tools.front.certificates import AUTHORITY, has_authority, write_authority, write_certificate
from tools.front.configuration import write_configuration
from tools.front.door import Front
from tools.front.elsewhere import add_elsewhere_arguments, backends_from, models_from
from tools.front.keys import CALLER, OPERATOR, add_key, read_keys, revoke_key
from tools.front.options import Backend, FrontError, front_options_from

_FOLLOW_S = 0.5
_AGAIN_S = 60.0  # until HAProxy is tried again with what it has refused


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("tools.front", __doc__)
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    keys = actions.add_parser("keys", help="add, list or revoke API keys")
    keys.set_defaults(run=_keys)
    keys.add_argument("action", choices=("add", "list", "revoke"))
    keys.add_argument("file", type=Path, metavar="FILE", help="as given to --api-keys")
    keys.add_argument("client", nargs="?", metavar="CLIENT", help="whose key")
    keys.add_argument("--role", choices=(CALLER, OPERATOR), default=CALLER, help="what the key opens")
    text = "at most N requests per second (default: any)"
    keys.add_argument("--rate", type=positive, default=0, metavar="N", help=text)
    text = "make a test authority, unless the folder has one, and certificates of it for a server and a client"
    made = actions.add_parser("certificates", help=text)
    made.set_defaults(run=_certificates)
    made.add_argument("folder", type=Path, metavar="FOLDER")
    made.add_argument("--host", action="append", metavar="NAME", help="of the server, more than once if need be")
    made.add_argument("--days", type=positive, default=365, help="of validity")
    door = actions.add_parser("run", help="run a door before servers on other hosts, until Ctrl-C")
    door.set_defaults(run=_run)
    add_elsewhere_arguments(door)
    config = actions.add_parser("config", help="write the configuration of a HAProxy that runs elsewhere")
    config.set_defaults(run=_config)
    config.add_argument("--socket", default="/tmp/admin.sock", help="of HAProxy's runtime API")
    add_elsewhere_arguments(config)
    return parser


def _keys(arguments: argparse.Namespace) -> None:
    if arguments.action == "list":
        rows = [(key.client, key.role, str(key.rate or "any"), key.digest[:8]) for key in read_keys(arguments.file)]
        print(text_table([("client", "role", "requests/s", "SHA-256"), *rows]))
    elif arguments.action == "revoke":
        revoke_key(arguments.file, arguments.client or "")
        say(f"{arguments.client} has no key in {arguments.file} any more; a running door follows within a second")
    else:
        print(add_key(arguments.file, arguments.client or "", arguments.role, arguments.rate))
        say("callers send it as `Authorization: Bearer KEY`; it is stored nowhere else")


def _certificates(arguments: argparse.Namespace) -> None:
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    # Callers who trust the authority that is there go on to do so.
    if not has_authority(folder):
        write_authority(folder, days=arguments.days)
    write_certificate(folder, "server", arguments.host or ["localhost", "127.0.0.1"], arguments.days)
    write_certificate(folder, "client", (), arguments.days)
    say(f"{folder}: {AUTHORITY}.pem for callers (--ca-file), server.pem and .key for the door, client.pem and .key")


def _run(arguments: argparse.Namespace) -> None:
    options = front_options_from(arguments)
    assert options
    # It may hold keys and certificates.
    arguments.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    backends = backends_from(arguments)
    with Front(arguments.folder, options, models_from(arguments), backends, say) as front, suppress(KeyboardInterrupt):
        print(f"Front door at {front.address} (HTTP and gRPC); operators at {front.operator}; Ctrl-C stops", flush=True)
        _follow(front, arguments, backends)
    say("stopped")


def _follow(front: Front, arguments: argparse.Namespace, backends: Sequence[Backend]) -> NoReturn:
    """Stand before the replicas that the file names, whenever it changes; before those of late where that fails."""
    trouble, again = "", math.inf
    while True:
        time.sleep(_FOLLOW_S)
        try:
            wanted = backends_from(arguments)
            if wanted != backends or time.monotonic() > again:
                backends, again = wanted, time.monotonic() + _AGAIN_S
                front.replace_backends(wanted)
                say(f"stands before {', '.join(each.name for each in wanted)} now")
                trouble, again = "", math.inf
        except (FrontError, OSError) as error:
            if str(error) != trouble:
                say(trouble := str(error))


def _config(arguments: argparse.Namespace) -> None:
    options = front_options_from(arguments)
    assert options
    # Elsewhere, what HAProxy prints is its log.
    options = replace(options, access_log=options.access_log or Path("-"))
    arguments.folder.mkdir(parents=True, exist_ok=True)
    models = models_from(arguments)
    path = write_configuration(arguments.folder, options, models, backends_from(arguments), arguments.socket)
    say(f"{path}; check it with `haproxy -c -f {path}`")


@command()
def main() -> int:
    """Do what was asked."""
    arguments = _parser().parse_args()
    arguments.run(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
