"""What a front door needs: API keys, certificates for tests, a configuration for a HAProxy elsewhere.

`python -m tools.serve --front HOST:PORT` runs the door; this command makes what it takes, and changes it meanwhile.

    python -m tools.front keys add keys.map alice --rate 100   # prints the key, which is stored nowhere
    python -m tools.front keys revoke keys.map alice           # at once, a running door reads the file again
    python -m tools.front certificates build/tls --host 127.0.0.1
    python -m tools.front config build/front --front 0.0.0.0:8443 --backend triton=triton:8000,triton:8001
    python -m tools.front config build/front --front 0.0.0.0:8443 --server triton:8001 \
        --backend pod=triton:8000,triton:8001 --addresses 10       # up to ten replicas that share a name
"""

import argparse
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from google.protobuf.json_format import ParseDict
from tritonclient.grpc.model_config_pb2 import ModelConfig

from clients.client import Client
from clients.command import address, command, command_parser, positive, say, text_table
from clients.connection import Connection, is_address
from tools.front.certificates import AUTHORITY, write_authority, write_certificate
from tools.front.configuration import write_configuration
from tools.front.keys import CALLER, OPERATOR, add_key, read_keys, revoke_key
from tools.front.options import Backend, add_front_arguments, front_options_from
from tools.repository import REPOSITORY, model_names, read_config


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("tools.front", __doc__)
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    keys = actions.add_parser("keys", help="add, list or revoke API keys")
    keys.set_defaults(run=_keys)
    keys.add_argument("action", choices=("add", "list", "revoke"))
    keys.add_argument("file", type=Path, metavar="FILE", help="as given to --api-keys")
    keys.add_argument("client", nargs="?", metavar="CLIENT", help="whose key")
    keys.add_argument("--role", choices=(CALLER, OPERATOR), default=CALLER, help="(default: %(default)s)")
    keys.add_argument("--rate", type=positive, default=0, metavar="N", help="at most N requests per second")
    made = actions.add_parser("certificates", help="make a test authority, and certificates for a server and a client")
    made.set_defaults(run=_certificates)
    made.add_argument("folder", type=Path, metavar="FOLDER")
    made.add_argument("--host", action="append", metavar="NAME", help="of the server, more than once if need be")
    made.add_argument("--days", type=positive, default=365, help="of validity (default: %(default)s)")
    config = actions.add_parser("config", help="write the configuration of a HAProxy that runs elsewhere")
    config.set_defaults(run=_config)
    config.add_argument("folder", type=Path, metavar="FOLDER")
    models = config.add_mutually_exclusive_group()
    models.add_argument("--repository", type=Path, default=REPOSITORY, help="of the models (default: %(default)s)")
    text = "or ask a running server for them, over gRPC"
    models.add_argument("--server", type=address, metavar="HOST:PORT", help=text)
    backend = partial(config.add_argument, "--backend", type=_backend, action="append", required=True)
    backend(metavar="NAME=HTTP,GRPC[,AGENT]", help="HOST:PORT of both protocols, and the port of its agent")
    text = "replicas that a backend's host name may stand for; they come and go as it is resolved (default: its first)"
    config.add_argument("--addresses", type=positive, metavar="N", help=text)
    config.add_argument("--socket", default="/tmp/admin.sock", help="of HAProxy's runtime API (default: %(default)s)")
    add_front_arguments(config, required=True)
    return parser


def _backend(text: str) -> Backend:
    name, _, places = text.partition("=")
    http, grpc, *agent = [*places.split(","), ""][:3]
    if not (name.isidentifier() and is_address(http) and is_address(grpc) and (agent[0] or "0").isdigit()):
        raise argparse.ArgumentTypeError(f"expected NAME=HOST:PORT,HOST:PORT[,PORT], got '{text}'")
    return Backend(name, http, grpc, int(agent[0] or 0))


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
    write_authority(folder, days=arguments.days)
    write_certificate(folder, "server", arguments.host or ["localhost", "127.0.0.1"], arguments.days)
    write_certificate(folder, "client", (), arguments.days)
    say(f"{folder}: {AUTHORITY}.pem for callers (--ca-file), server.pem and .key for the door, client.pem and .key")


def _config(arguments: argparse.Namespace) -> None:
    options = front_options_from(arguments)
    assert options
    # Elsewhere, what HAProxy prints is its log.
    options = replace(options, access_log=options.access_log or Path("-"))
    arguments.folder.mkdir(parents=True, exist_ok=True)
    backends = [each for backend in arguments.backend for each in _places(backend, arguments.addresses)]
    path = write_configuration(arguments.folder, options, _models(arguments), backends, arguments.socket)
    say(f"{path}; check it with `haproxy -c -f {path}`")


def _models(arguments: argparse.Namespace) -> list[ModelConfig]:
    if arguments.server:
        with Client(Connection("grpc", arguments.server)) as client:
            names = {model["name"] for model in client.models() if model.get("state") == "READY"}
            return [ParseDict(client.config(name), ModelConfig()) for name in sorted(names)]
    return [read_config(model, repository=arguments.repository) for model in model_names(arguments.repository)]


def _places(backend: Backend, addresses: int | None) -> list[Backend]:
    """One backend for each replica that the name may stand for."""
    if addresses is None:
        return [backend]
    return [replace(backend, name=f"{backend.name}{place}", is_shared=True) for place in range(addresses)]


@command()
def main() -> int:
    """Do what was asked."""
    arguments = _parser().parse_args()
    arguments.run(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
