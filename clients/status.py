"""Show what a server is doing: `python -m clients.status`.

Its version, the state of every model, and Triton's own counters: requests, the mean size of the batches that were
executed, and where a request's time went. Where `tools.serve` supervises it, also the state of its replicas, sick
models, and what was done about them. Exit code 1 means that the server is not ready, or a model sick.

    python -m clients.status
    python -m clients.status cifar10_cnn --protocol grpc --json
"""

import http.client
import json
import os
import sys
from dataclasses import asdict
from typing import Any

from clients.client import Client
from clients.command import command, command_parser, print_json, text_table
from clients.connection import add_connection_arguments, connection_from, is_address
from clients.errors import InvalidInput, ModelNotFound, ServerUnavailable
from clients.statistics import STAGES, counted

# Of a server at the default addresses.
_SUPERVISOR, _DEFAULTS = "127.0.0.1:8003", ("127.0.0.1:8000", "127.0.0.1:8001")
_EVENTS = 5  # shown
_COLUMNS = ("requests", "failures", "mean_batch", *(f"{stage}_us" for stage in STAGES))


def _status(client: Client, wanted: list[str]) -> dict[str, Any]:
    """The JSON document of a server and its models (default: all)."""
    server, models = client.server(), client.models()
    known = [model["name"] for model in models]
    for name in wanted:
        if name not in known:
            raise ModelNotFound(f"no model '{name}' at {client.connection.url}; it has {', '.join(known) or 'none'}")
    counters = {(entry["name"], str(entry["version"])): asdict(counted(entry)) for entry in client.statistics()}
    return {
        "server": {"name": server.get("name"), "version": server.get("version"), "ready": client.is_ready()},
        "models": [
            {**model, **counters.get((model["name"], str(model.get("version", ""))), {})}
            for model in models
            if not wanted or model["name"] in wanted
        ],
    }


def _supervision(wanted: str | None, url: str) -> dict[str, Any] | None:
    """What the supervisor of the server says; None where there is none that we know."""
    address = wanted or (_SUPERVISOR if url in _DEFAULTS else "")
    if wanted and not is_address(wanted):
        raise InvalidInput(f"expected the supervisor as HOST:PORT, got '{wanted}'")
    if not address:
        return None
    connection = http.client.HTTPConnection(address, timeout=1)
    try:
        connection.request("GET", "/status")
        answer = json.loads(connection.getresponse().read())
        return {"replicas": list(answer["replicas"]), "events": list(answer["events"])}
    except (OSError, http.client.HTTPException, ValueError, TypeError, LookupError) as error:
        if wanted:
            raise ServerUnavailable(f"no supervisor of tools.serve answers at {address} ({error})") from error
        return None
    finally:
        connection.close()


def _supervision_text(supervision: dict[str, Any]) -> list[str]:
    lines = []
    for replica in supervision["replicas"]:
        address = replica.get("http") or replica.get("grpc", "")
        lines.append(f"{replica['name']} {replica['state']} {address}".rstrip() + f", deaths: {replica['deaths']}")
        lines += [f"  {model} is SICK: {problem}" for model, problem in replica["sick"].items()]
    told = [event for event in supervision["events"] if event["event"] not in ("starting", "up", "draining", "down")]
    for event in told[-_EVENTS:]:
        place = ": ".join(event[key] for key in ("replica", "model") if key in event)
        lines.append(f"  {event['at'][11:19]} {place} {event['event']}: {event['text']}")
    return lines


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
    supervision = _supervision_text(document["supervision"]) if "supervision" in document else []
    return "\n".join([heading, text_table(rows), *notes, *supervision])


@command()
def main() -> int:
    """Print the status of a server."""
    parser = command_parser("clients.status", __doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: all")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    words = "of tools.serve (default: $TRITON_SUPERVISOR_URL; for Triton's ports 127.0.0.1:8003)"
    parser.add_argument("--supervisor", metavar="HOST:PORT", help=words)
    add_connection_arguments(parser)
    arguments = parser.parse_args()
    connection = connection_from(arguments)
    with Client(connection) as client:
        document = _status(client, arguments.models)
    supervision = _supervision(arguments.supervisor or os.environ.get("TRITON_SUPERVISOR_URL"), connection.url)
    if supervision:
        document["supervision"] = supervision
    if arguments.json:
        print_json(document)
    else:
        print(_text(document, arguments.models))
    is_sick = supervision and any(replica["sick"] for replica in supervision["replicas"])
    return 0 if document["server"]["ready"] and not is_sick else 1


if __name__ == "__main__":
    sys.exit(main())
