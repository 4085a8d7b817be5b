"""Run a model on a large set: `python -m clients.batch INPUT OUTPUT.parquet|OUTPUT.npz --model NAME`.

INPUT is a folder of images, a .npy, or a .npz with an array for each input. Many requests are under way at once, the
output has the input's order, and a run that was interrupted goes on where it was when the same command is given again:
finished rows lie in OUTPUT.partial/ until OUTPUT appears whole. A row without an answer has its reason in `error`.

    python -m clients.batch photos/ labels.parquet --model cifar10_cnn --protocol grpc
    python -m clients.batch rows.npy logits.npz --model mnist_mlp --in-flight 64 --json

Exit codes: 0 all rows are good, 1 some have an error, 2 it could not run, 130 interrupted (Ctrl-C or SIGTERM).
"""

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from clients.aio import AsyncClient
from clients.batch.array_source import array_source
from clients.batch.chunks import STAGED, Chunk, Store, open_store, publish
from clients.batch.image_source import image_source
from clients.batch.inflight import Run
from clients.batch.plan import IN_FLIGHT, Plan, job_of, make_plan
from clients.batch.sources import Source
from clients.batch.tables import Table, check_format, write_table
from clients.command import positive, progress_counter
from clients.connection import Connection, add_connection_arguments, connection_from
from clients.contract import Array, Contract
from clients.errors import ClientError, InvalidInput

# Half a minute, for a server that restarts; a deadline that a slow model meets while all requests wait in its queue.
RETRIES, TIMEOUT_S = 30, 300.0
# A server that does not answer at the start is not about to come back.
RETRIES_AT_START = 2
INTERRUPTED = 130
SHOWN_ERRORS = 5


def open_source(path: Path, contract: Contract, spool: Path) -> Source:
    """The rows of a folder or file; `spool` is a folder on a disk with room for the arrays of a .npz.

    Raises:
        InvalidInput: there is nothing to read, or it does not suit the model.
    """
    if path.is_dir():
        return image_source(path, contract)
    if path.is_file() and path.suffix in (".npy", ".npz"):
        return array_source(path, contract, spool)
    raise InvalidInput(
        f"{path}: expected a folder of images, a .npy or a .npz file{'' if path.exists() else '; nothing is there'}"
    )


async def ask_contract(connection: Connection, model: str) -> Contract:
    """What the model takes and gives."""
    async with AsyncClient(replace(connection, retries=min(connection.retries, RETRIES_AT_START))) as client:
        return await client.contract(model)


async def infer(connection: Connection, plan: Plan, source: Source, store: Store) -> None:
    """Put every row that is missing into the store."""
    with progress_counter("rows", plan.rows, finished_rows(store)) as advance:
        async with AsyncClient(connection) as client:
            await Run(client, plan, source, store, advance).finish()


def finished_rows(store: Store) -> int:
    """Rows that need not be asked for again."""
    return sum(chunk.rows for chunk in store.finished.values())


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything from the first question to the finished output; the figures for people and scripts.

    Raises:
        ClientError: it cannot run, or not to its end.
    """
    began, output = time.monotonic(), arguments.output
    check_format(output)
    connection = connection_from(arguments)
    contract = asyncio.run(ask_contract(connection, arguments.model))
    source = open_source(arguments.input, contract, output.parent)
    plan = make_plan(contract, source, arguments.outputs, arguments.batch_size, arguments.in_flight)
    with open_store(partial_folder(output), job_of(plan, source), plan.chunks(), arguments.fresh) as store:
        resumed = finished_rows(store)
        try:
            asyncio.run(infer(connection, plan, source, store))
        finally:
            tell_what_is_kept(plan, store)
        finish(output, plan, source, store, contract)
    return figures(store, output, resumed, time.monotonic() - began)


def partial_folder(output: Path) -> Path:
    """Where finished rows lie until all are."""
    return output.with_name(f"{output.name}.partial")


def tell_what_is_kept(plan: Plan, store: Store) -> None:
    """Say on stderr how far a run came that did not come to its end; leave nothing where nothing is finished."""
    done = finished_rows(store)
    if not done:
        store.remove()
    elif done < plan.rows:
        print(f"{done} of {plan.rows} rows are kept in {store.folder}; the same command resumes", file=sys.stderr)


def finish(output: Path, plan: Plan, source: Source, store: Store, contract: Contract) -> None:
    """Write the output whole, put it in its place and remove the chunks, in this order."""

    def pieces() -> Iterator[tuple[Array, Chunk]]:
        return ((source.labels(rows), store.read(index)) for index, rows in enumerate(plan.chunks()))

    heads = {name: store.heads[name] if name in store.heads else declared(contract, name) for name in plan.outputs}
    staged = store.folder / f"{STAGED}{output.name}"
    write_table(staged, Table(source.column, heads, plan.rows, pieces))
    show_errors(source, plan, store)
    publish(staged, output)
    store.remove()


def declared(contract: Contract, output: str) -> Array:
    """A row of an output of which no row is good, by its config; a dim that varies is taken for 1."""
    spec = next(spec for spec in contract.outputs if spec.name == output)
    dtype = {"BYTES": np.str_, "BF16": np.float32}.get(spec.datatype) or triton_to_np_dtype(spec.datatype)
    return np.zeros((1, *(abs(dim) for dim in spec.dims)), dtype)


def show_errors(source: Source, plan: Plan, store: Store) -> None:
    """The first reasons on stderr; all are in the output."""
    bad = [index for index, chunk in sorted(store.finished.items()) if chunk.errors]
    shown = 0
    for index in bad[:SHOWN_ERRORS]:
        labels, errors = source.labels(plan.chunk(index)), store.read(index).errors
        for label, error in zip(labels[errors != ""], errors[errors != ""], strict=True):
            if (shown := shown + 1) <= SHOWN_ERRORS:
                print(f"{source.column} {label}: error: {error}", file=sys.stderr)


def figures(store: Store, output: Path, resumed: int, seconds: float) -> dict[str, Any]:
    """What was done; `rows_per_s` counts the rows of this run."""
    rows = finished_rows(store)
    return {
        "rows": rows,
        "errors": sum(chunk.errors for chunk in store.finished.values()),
        "seconds": round(seconds, 3),
        "rows_per_s": round((rows - resumed) / seconds, 1),
        "resumed_rows": resumed,
        "output": str(output),
    }


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m clients.batch",
        description=(__doc__ or "").split("\n")[0],
    )
    parser.add_argument(
        "input", type=Path, metavar="INPUT", help="a folder of images, a .npy or a .npz (by input name)"
    )
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="a .parquet or .npz file; replaced when it exists")
    parser.add_argument("--model", required=True, metavar="NAME")
    parser.add_argument("--outputs", nargs="+", metavar="NAME", help="outputs to keep (default: all)")
    parser.add_argument(
        "--in-flight",
        type=positive,
        metavar="N",
        help=f"requests at once (default: {IN_FLIGHT}, fewer if they are large)",
    )
    parser.add_argument("--batch-size", type=positive, metavar="N", help="rows per request (default: the model's most)")
    parser.add_argument("--fresh", action="store_true", help="start again instead of resuming an earlier run")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a line")
    add_connection_arguments(parser, TIMEOUT_S, RETRIES)
    return parser


def stop(*_: object) -> None:
    """End on SIGTERM as on Ctrl-C; a shell's background jobs ignore the latter, so it cannot always stand for both."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


def main() -> int:
    """Entry point."""
    arguments = parser().parse_args()
    signal.signal(signal.SIGTERM, stop)
    try:
        document = run(arguments)
    except (ClientError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    print(json.dumps(document, separators=(",", ":")) if arguments.json else sentence(document))
    return 1 if document["errors"] else 0


def sentence(document: dict[str, Any]) -> str:
    """The figures for people."""
    return (
        "{rows} rows ({resumed_rows} of an earlier run, {errors} with an error) in {seconds:.1f} s, "
        "{rows_per_s:g} rows/s: {output}"
    ).format_map(document)


if __name__ == "__main__":
    sys.exit(main())
