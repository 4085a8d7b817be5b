"""One large inference from the model's contract to the finished output."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clients.batch.chunks import Chunk, empty_row
from clients.batch.plan import Options, Plan, job_of, make_plan
from clients.batch.requests import Run, VersionGone, first_good_row
from clients.batch.servers import ask, ask_contract
from clients.batch.sources import Source, open_source
from clients.batch.store import Store, open_store, version_begun
from clients.batch.tables import Table, check_format, write_table
from clients.command import progress_counter, say
from clients.connection import Connection
from clients.contract import Array, Contract
from clients.errors import ToolError
from clients.output import staged


@dataclass(frozen=True)
class Summary:
    """What a run did; `rows_per_s` counts the rows of this run."""

    rows: int
    errors: int
    seconds: float
    rows_per_s: float
    resumed_rows: int
    output: str

    @classmethod
    def since(cls, began: float, rows: int, errors: int, resumed: int, output: str) -> "Summary":
        """What was done since a time of the monotonic clock."""
        seconds = time.monotonic() - began
        return cls(rows, errors, round(seconds, 3), round((rows - resumed) / seconds, 1), resumed, output)


def run(
    connections: Sequence[Connection],
    model: str,
    rows: Path,
    output: Path,
    options: Options,
) -> Summary:
    """Run a model on all rows of a folder of images, a .npy or a .npz, and write the output, a .parquet or a .npz.

    The requests go to any of the servers at the `connections`, which serve the same model.

    Raises:
        ClientError: an option cannot be used, or the server fails; finished rows are kept.
    """
    began = time.monotonic()
    check_format(output)
    contract = asyncio.run(ask_contract(connections, model))
    source = open_source(rows, contract, output.parent)
    folder = partial_folder(output)
    plan = make_plan(contract, source, options, None if options.fresh else version_begun(folder))
    job = job_of(plan, source, chunk_rows=plan.chunk_rows)
    with open_store(folder, job, plan.chunks(), options.fresh) as store:
        resumed = store.rows
        _infer(connections, plan, source, store)
        try:
            _write_output(output, plan, source, store, contract)
        except OSError as error:
            kept = f"all rows are kept in {folder}, and the same command writes it"
            raise ToolError(f"{output} cannot be written: {error.strerror or error}; {kept}") from error
    return Summary.since(began, store.rows, store.errors, resumed, str(output))


def _infer(connections: Sequence[Connection], plan: Plan, source: Source, store: Store) -> None:
    """Ask for the rows that are missing."""

    async def finish() -> None:
        with progress_counter("rows", plan.rows, store.rows) as advance:
            async with ask(connections, plan.in_flight) as client:
                await Run(client, plan, source, store, advance, first_good_row(plan, store)).finish()

    try:
        with kept(str(store.folder), lambda: store.rows, plan.rows):
            asyncio.run(finish())
    finally:
        if not store.rows:
            store.remove()


@contextmanager
def kept(place: str, done: Callable[[], int], rows: int) -> Iterator[None]:
    """Say how many rows are kept where the block does not end with all of them."""
    how = "; the same command resumes"
    try:
        yield
    except VersionGone:
        how = ""  # Its message says what to choose.
        raise
    finally:
        if 0 < done() < rows:
            say(f"{done()} of {rows} rows are kept in {place}{how}")


def partial_folder(output: Path) -> Path:
    """Where finished rows are until all are."""
    return output.with_name(f"{output.name}.partial")


def _write_output(output: Path, plan: Plan, source: Source, store: Store, contract: Contract) -> None:
    """Write the output, show its first errors, put it in its place and remove the chunks, in this order."""

    def pieces() -> Iterator[tuple[Array, Chunk]]:
        return ((source.labels(rows), store.read(index)) for index, rows in enumerate(plan.chunks()))

    heads = {name: store.heads[name] if name in store.heads else empty_row(contract, name) for name in plan.outputs}
    has_versions = plan.mixed_versions or len(store.versions) > 1
    table = Table(source.column, heads, plan.rows, pieces, has_versions)
    with staged(output, store.folder) as path:
        write_table(path, table)
        for label, error in table.first_errors() if store.errors else ():
            say(f"{source.column} {label}: error: {error}")
    store.remove()
