"""Show what a server is doing: `python -m clients.status`.

Its version, the state of every model, and Triton's own counters: requests, the mean size of the batches that were
executed, and where a request's time went. Exit code 1 means that the server is not ready.

    python -m clients.status
    python -m clients.status cifar10_cnn --protocol grpc --json
"""

import sys
from typing import Any

from clients.client import Client
from clients.command import command, command_parser, print_json, text_table
from clients.connection import add_connection_arguments, connection_from
from clients.errors import ModelNotFound
from clients.statistics import STAGES, figures

_COLUMNS = ("requests", "failures", "mean_batch", *(f"{stage}_us" for stage in STAGES))


def _status(client: Client, wanted: list[str]) -> dict[str, Any]:
    """The JSON document of a server and its models (default: all)."""
    server, models = client.server(), client.models()
    known = [model["name"] for model in models]
    for name in wanted:
        if name not in known:
            raise ModelNotFound(f"no model '{name}' at {client.connection.url}; it has {', '.join(known) or 'none'}")
    counters = {(entry["name"], str(entry["version"])): figures(entry) for entry in client.statistics()}
    return {
        "server": {"name": server.get("name"), "version": server.get("version"), "ready": client.is_ready()},
        "models": [
            {**model, **counters.get((model["name"], str(model.get("version", ""))), {})}
            for model in models
            if not wanted or model["name"] in wanted
        ],
    }


def _text(document: dict[str, Any], wanted: list[str]) -> str:
    server = document["server"]
    heading = f"{server['name']} {server['version']}, {'ready' if server['ready'] else 'NOT READY'}"
    rows, notes = [["model", "state", *_COLUMNS]], []
    # What the repository holds and nobody has loaded has no state and no counters.
    unloaded = [model["name"] for model in document["models"] if "state" not in model and model["name"] not in wanted]
    for model in document["models"]:
        if model["name"] in unloaded:
            continue
        title = f"{model['name']} {model.get('version', '')}".strip()
        cells = ("-" if model.get(column) is None else str(model[column]) for column in _COLUMNS)
        rows.append([title, model.get("state", "UNLOADED"), *cells])
        if model.get("reason"):
            notes.append(f"{title}: {model['reason']}")
    if unloaded:
        notes.append(f"not loaded: {', '.join(unloaded)}")
    return "\n".join([heading, text_table(rows), *notes])


@command()
def main() -> int:
    """Print the status of a server."""
    parser = command_parser("clients.status", __doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: all")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    add_connection_arguments(parser)
    arguments = parser.parse_args()
    with Client(connection_from(arguments)) as client:
        document = _status(client, arguments.models)
    if arguments.json:
        print_json(document)
    else:
        print(_text(document, arguments.models))
    return 0 if document["server"]["ready"] else 1


if __name__ == "__main__":
    sys.exit(main())
