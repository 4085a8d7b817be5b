"""One very large inference: parts that any process can do, here or on the machines of a Ray cluster."""

import asyncio
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from itertools import islice

from clients.batch.datasets import DataSet, open_dataset
from clients.batch.job import Summary, kept
from clients.batch.parts import Record, open_folder
from clients.batch.places import check_apart, place_of
from clients.batch.plan import Options, job_of, make_plan
from clients.batch.servers import ask_contract
from clients.batch.tables import SHOWN_ERRORS
from clients.batch.work import Failure, Part, Work, do_part
from clients.command import progress_counter, say
from clients.connection import Connection

# Does parts of some work, in any order.
Execute = Callable[[Work, Sequence[Part]], Generator[Record | Failure, None, None]]
# Parts that may be refused before any is done: after that the model is taken for ill.
_MOST_REFUSED = 8


def here(work: Work, parts: Sequence[Part]) -> Generator[Record | Failure, None, None]:
    """Do parts in this process, one after another."""
    for part in parts:
        yield do_part(work, part)


def run_parts(
    connections: Sequence[Connection],
    model: str,
    rows: str,
    output: str,
    options: Options,
    execute: Execute = here,
) -> Summary:
    """Run a model on all rows of a data set, and write a folder of Parquet parts with a manifest.

    `rows` and `output` are paths or URIs that pyarrow knows.

    Raises:
        ToolError: an option cannot be used, or a part cannot be done; finished parts are kept.
    """
    began = time.monotonic()
    source, place = place_of(rows), place_of(output)
    check_apart(source, place)
    contract = asyncio.run(ask_contract(connections, model))
    data = open_dataset(source, contract)
    with open_folder(place, options.fresh) as folder:
        # All parts have the same columns.
        plan = make_plan(contract, data, options, folder.version, has_versions=True)
        size = data.part_rows(plan.batch_size, options.part_rows)
        finished = folder.begin(job_of(plan, data, part_rows=size))
        resumed = sum(record.rows for record in finished.values())
        work = Work(tuple(connections), contract, plan, data.place, data.kind, folder.output)
        _finish(work, data, size, finished, execute)
        records = [finished[index] for index in sorted(finished)]
        errors = sum(record.errors for record in records)
        folder.end(records, model=model, rows=data.rows, errors=errors)
    for label, error in islice((sample for record in records for sample in record.samples), SHOWN_ERRORS):
        say(f"{data.column} {label}: error: {error}")
    return Summary.since(began, data.rows, errors, resumed, place.text)


def _finish(work: Work, data: DataSet, part_rows: int, finished: dict[int, Record], execute: Execute) -> None:
    """Have the missing parts done; `finished` gets their records."""
    starts = range(0, data.rows, part_rows)
    missing = [index for index in range(len(starts)) if index not in finished]

    def part(index: int, good: int | None = None) -> Part:
        rows = range(starts[index], min(starts[index] + part_rows, data.rows))
        return Part(
            index, rows.start, data.segments(rows), [] if good is None else data.segments(range(good, good + 1))
        )

    def done() -> int:
        return sum(record.rows for record in finished.values())

    with kept(work.output.place.text, done, data.rows), progress_counter("rows", data.rows, done()) as advance:
        refused = _do(work, [part(index) for index in missing], finished, execute, advance)
        if refused:
            # Is it the model that is ill, or are all rows of these parts? A row that was good before tells.
            good = next((record.first_good for record in finished.values() if record.first_good is not None), None)
            if good is None:
                raise refused[0].error
            _do(work, [part(failure.index, good) for failure in refused], finished, execute, advance)


def _do(
    work: Work, parts: Sequence[Part], finished: dict[int, Record], execute: Execute, advance: Callable[[int], object]
) -> list[Failure]:
    """Do parts; returns those of which the server has refused all rows.

    Raises:
        ToolError: another failure; no further part is begun.
    """
    refused: list[Failure] = []
    with closing(execute(work, parts)) as results:
        for result in results:
            if isinstance(result, Record):
                finished[result.index] = result
                advance(result.rows)
            elif result.is_refusal and (finished or len(refused) < _MOST_REFUSED):
                refused.append(result)
            else:
                raise result.error
    return refused
