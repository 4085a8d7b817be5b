"""The output of a very large inference: a folder of Parquet parts, each written whole, and at the end a manifest.

    rows/part-00000.parquet …    some rows each, in the input's order
    rows/_manifest.json          written last: rows, errors, size and SHA-256 of every part
    rows/_job.json               what the rows are and what was done with them; parts of another job are refused
    rows/_done/00000.json        what the manifest will say of a finished part, until all are finished

Readers of Parquet (pyarrow, pandas, Spark, Ray Data) skip what begins with an underscore.
"""

import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from clients.batch.places import Place
from clients.batch.store import Job, difference, locked
from clients.batch.tables import Table, write_parquet
from clients.errors import InvalidInput
from clients.output import STAGED, try_folder

_JOB, _MANIFEST, _DONE, _LOCK = "_job.json", "_manifest.json", "_done", "_lock"
_PART, _RECORD = re.compile(r"part-\d{5,}\.parquet"), re.compile(rf"{_DONE}/(\d{{5,}})\.json")
_AT_ONCE = 16


@dataclass(frozen=True)
class Record:
    """A finished part."""

    index: int
    file: str
    first_row: int
    rows: int
    errors: int
    bytes: int
    sha256: str
    versions: list[int]  # that were asked
    first_good: int | None  # the first row with an answer, of all rows
    samples: list[list[Any]]  # the label and the error of the first rows that have one


@dataclass(frozen=True)
class Output:
    """The folder of one job; a plain value, which workers get."""

    place: Place
    digest: str = ""  # of the job

    def publish(self, table: Table, **known: Any) -> Record:
        """Write a part, and after it the record that says so."""
        content = io.BytesIO()
        write_parquet(content, table)
        written = content.getvalue()
        name, digest = f"part-{known['index']:05d}.parquet", hashlib.sha256(written).hexdigest()
        record = Record(file=name, bytes=len(written), sha256=digest, **known)
        self.place.write(record.file, written)
        self.record(record)
        return record

    def record(self, record: Record) -> None:
        """Write down that a part is finished."""
        self.place.write(_done(record.index), json.dumps({"job": self.digest, **asdict(record)}).encode())

    def finished(self, index: int) -> Record | None:
        """The record of a part of this job, if it is finished."""
        try:
            content = json.loads(self.place.read(_done(index)))
            return Record(**content) if content.pop("job") == self.digest else None
        except (OSError, ValueError, TypeError, KeyError):
            return None


def _done(index: int) -> str:
    return f"{_DONE}/{index:05d}.json"


@dataclass
class Folder:
    """What is in an output's folder, for the one process that plans its parts."""

    output: Output
    files: Mapping[str, int]  # sizes by name, at the beginning
    job: Job | None  # of an earlier run

    @property
    def version(self) -> str | None:
        """The model version with which an earlier run began."""
        return str(self.job["model_version"]) if self.job else None

    def begin(self, job: Job) -> dict[int, Record]:
        """Take the folder for a job; returns the parts of an earlier run of the same job by their index.

        Raises:
            InvalidInput: it has parts of another job.
        """
        if self.job and (different := difference(self.job, job)):
            raise InvalidInput(
                f"{self.output.place.text} has parts of another run: {different}; rows of two runs are not mixed. Undo "
                "the change to resume, give --fresh to replace them, or choose another OUTPUT"
            )
        digest = hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()
        self.output = replace(self.output, digest=digest)
        self.output.place.write(_JOB, json.dumps(job).encode())
        records = {record.index: record for record in (*self._of_manifest(), *self._of_parts())}
        lost = {index for index, record in records.items() if self.files.get(record.file) != record.bytes}
        for index in lost:
            self._remove(_done(index))  # Else a worker would take the part for finished.
        kept = {index: record for index, record in records.items() if index not in lost}
        if lost and _MANIFEST in self.files:
            # The folder is not complete any more, however this run ends.
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(self.output.record, kept.values()))
            self._remove(_MANIFEST)
        return kept

    def _of_manifest(self) -> list[Record]:
        if _MANIFEST not in self.files:
            return []
        return [Record(**part) for part in json.loads(self.output.place.read(_MANIFEST))["parts"]]

    def _of_parts(self) -> list[Record]:
        """The records of parts that no manifest has yet."""
        found = [_RECORD.fullmatch(name) for name in self.files]
        indices = [int(match[1]) for match in found if match]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return [record for record in pool.map(self.output.finished, indices) if record]

    def end(self, records: Sequence[Record], **known: Any) -> None:
        """Write the manifest of all parts; their own records are not needed any more."""
        parts = [asdict(record) for record in sorted(records, key=lambda record: record.index)]
        self.output.place.write(_MANIFEST, json.dumps({**known, "parts": parts}, indent=1).encode())
        self.output.place.remove_folder(_DONE)

    def clear(self) -> None:
        """Delete what this module writes: first what says that it is complete, last whose it is."""
        self._remove(_MANIFEST)
        self.output.place.remove_folder(_DONE)
        for name in self.files:
            if _PART.fullmatch(name) or name.startswith(STAGED):
                self._remove(name)
        self._remove(_JOB)
        self.job, self.files = None, {}

    def _remove(self, name: str) -> None:
        if name in self.files:
            self.output.place.remove(name)


@contextmanager
def open_folder(place: Place, fresh: bool = False) -> Iterator[Folder]:
    """Open the folder of an output for this process alone; with `fresh`, the parts of earlier runs are deleted.

    Raises:
        InvalidInput: nothing can be written there, it has files of another origin, or another process uses it.
    """
    if place.is_local:
        try_folder(Path(place.path), "OUTPUT")
    # Object stores have no locks: whoever runs a job twice there does its work twice, into the same files.
    with locked(Path(place.path) / _LOCK) if place.is_local else nullcontext():
        files = {file.name: file.size for file in place.files()}
        foreign = [name for name in files if name.endswith(".parquet")] if _JOB not in files else []
        if foreign:
            raise InvalidInput(
                f"{place.text} has files of another origin, such as {foreign[0]}; expected an empty folder, or the "
                "output of an earlier run"
            )
        # Without parts, there is nothing to lose.
        is_begun = _JOB in files and any(map(_PART.fullmatch, files))
        folder = Folder(Output(place), files, json.loads(place.read(_JOB)) if is_begun else None)
        if fresh:
            folder.clear()
        yield folder
