"""What a server is doing: `python -m clients.status`.

The server and its version, every model with its state, and Triton's own counters: requests, the mean batch size that
was really formed, and where a request's time went.
"""

import argparse
import json
import sys
from typing import Any

from clients.client import Client
from clients.connection import add_connection_arguments, connection_from
from clients.errors import ClientError, ModelNotFound
from clients.statistics import STAGES, figures


def status(client: Client, models: list[str]) -> dict[str, Any]:
    """Everything about a server, or about some of its models.

    Raises:
        ClientError: the server does not answer, or has no such model.
    """
    server = client.server()
    repository = client.models()
    known = [one["name"] for one in repository]
    for model in models:
        if model not in known:
            raise ModelNotFound(f"no model '{model}' at {client.connection.url}; it has {', '.join(known) or 'none'}")
    counters = {(one["name"], str(one["version"])): figures(one) for one in client.statistics()}
    listed = [one for one in repository if not models or one["name"] in models]
    return {
        "server": {"name": server.get("name"), "version": server.get("version"), "ready": client.is_ready()},
        "models": [{**one, **counters.get((one["name"], str(one.get("version", ""))), {})} for one in listed],
    }


def table(document: dict[str, Any]) -> str:
    """The status for people."""
    server = document["server"]
    columns = ("requests", "failures", "mean_batch", *(f"{stage}_us" for stage in STAGES))
    lines = [f"{server['name']} {server['version']}, {'ready' if server['ready'] else 'NOT READY'}"]
    names = [f"{model['name']} {model.get('version', '')}".strip() for model in document["models"]]
    width = max(map(len, ["model", *names])) + 2
    lines.append(f"{'model':{width}}{'state':12}" + "".join(f"{column:>19}" for column in columns))
    for name, model in zip(names, document["models"], strict=True):
        values = "".join(f"{'-' if model.get(column) is None else model[column]:>19}" for column in columns)
        reason = f"  {model['reason']}" if model.get("reason") else ""
        lines.append(f"{name:{width}}{model.get('state', 'UNLOADED'):12}{values}{reason}")
    return "\n".join(lines)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m clients.status", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: all")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    add_connection_arguments(parser)
    arguments = parser.parse_args()
    try:
        with Client(connection_from(arguments)) as client:
            document = status(client, arguments.models)
    except ClientError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(document, separators=(",", ":")) if arguments.json else table(document))
    return 0 if document["server"]["ready"] else 1


if __name__ == "__main__":
    sys.exit(main())
