"""The part of a large inference that is finished: chunks of rows in OUTPUT.partial/, each written whole or not at all.

However a run ends, the next one finds every finished chunk and begins with the first that is missing. The folder
remembers in job.json whose rows it holds; rows of another job are refused, so that they never mix.
"""

import fcntl
import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from clients.contract import Array, shape
from clients.errors import InvalidInput

JOB, LOCK, STAGED = "job.json", "lock", ".staged-"
CHUNKS = "[0-9]" * 8 + ".npz"
# What numpy raises on a file that a power cut left half on the disk.
DAMAGE = (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)
Job = Mapping[str, Any]


@dataclass(frozen=True)
class Chunk:
    """A stretch of finished rows.

    Attributes:
        errors: str [rows], why a row has no outputs; empty for a good row.
        outputs: arrays [good rows, ...] by output name; texts as str. Empty when no row is good.
    """

    errors: Array
    outputs: Mapping[str, Array]

    @property
    def good(self) -> Array:
        """Which rows have outputs: bool [rows]."""
        return np.asarray(self.errors == "")


@dataclass(frozen=True)
class Finished:
    """What is kept in memory of a finished chunk: rows, those without outputs, and the first good one's position."""

    rows: int
    errors: int
    good: int | None


@dataclass
class Store:
    """The finished chunks of one job; `open_store` makes it.

    Attributes:
        heads: a row of each output, [1, ...], for its dtype and shape.
    """

    folder: Path
    finished: dict[int, Finished] = field(default_factory=dict)
    heads: dict[str, Array] = field(default_factory=dict)

    def add(self, index: int, chunk: Chunk) -> None:
        """Keep a chunk for good; it survives whatever happens to this process afterwards.

        Raises:
            InvalidInput: an output's rows have another shape or dtype than those before.
        """
        self._note(index, chunk)
        arrays = {f"output/{name}": array for name, array in chunk.outputs.items()}
        staged = self.folder / f"{STAGED}{index}"
        with staged.open("wb") as file:
            np.savez(file, errors=chunk.errors, **arrays)
        staged.replace(self._path(index))

    def read(self, index: int) -> Chunk:
        """A finished chunk from the disk."""
        with self._path(index).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            outputs = {name.removeprefix("output/"): arrays[name] for name in arrays.files if name != "errors"}
            return Chunk(arrays["errors"], outputs)

    def recall(self, chunks: Sequence[range]) -> None:
        """Find the chunks of earlier runs; one that is damaged, or has not its rows, is to be done again."""
        for path in self.folder.glob(CHUNKS):
            index = int(path.stem)
            try:
                chunk = self.read(index)
            except DAMAGE:
                continue
            if index < len(chunks) and len(chunk.errors) == len(chunks[index]):
                self._note(index, chunk)

    def remove(self) -> None:
        """Delete the folder, the job last: what a kill leaves of it is still whole chunks of a known job."""
        clear(self.folder)
        (self.folder / LOCK).unlink()
        with suppress(OSError):  # Somebody else's files stay, and so does the folder.
            self.folder.rmdir()

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:08d}.npz"

    def _note(self, index: int, chunk: Chunk) -> None:
        for name, array in chunk.outputs.items():
            check_even(name, self.heads.setdefault(name, array[:1]), array)
        good = chunk.good
        first = int(good.argmax()) if good.any() else None
        self.finished[index] = Finished(len(good), int((~good).sum()), first)


def check_even(name: str, *arrays: Array) -> None:
    """Refuse parts of an output whose rows cannot stand in one column; texts of any width can.

    Raises:
        InvalidInput: shapes or dtypes differ.
    """
    kinds = {f"{'text' if one.dtype.kind == 'U' else one.dtype} {shape(one.shape[1:])}" for one in arrays}
    if len(kinds) > 1:
        raise InvalidInput(
            f"output '{name}' has rows of different kinds, {' and '.join(sorted(kinds)[:2])}, which make no column; "
            "name the other outputs with --outputs"
        )


@contextmanager
def open_store(folder: Path, job: Job, chunks: Sequence[range], fresh: bool) -> Iterator[Store]:
    """The store of a job, this process's alone, with the chunks of earlier runs in it.

    Args:
        folder: made if it is missing.
        job: what the rows are and what is done with them, as JSON.
        chunks: the rows of each chunk.
        fresh: forget earlier runs, whatever they were.

    Raises:
        InvalidInput: the folder holds the chunks of another job or foreign files, or another process uses it.
    """
    folder.mkdir(exist_ok=True)
    with (folder / LOCK).open("w") as held:
        lock(held.fileno(), folder)
        if fresh:
            clear(folder)
        check_job(folder, job)
        write_job(folder, job)
        store = Store(folder)
        store.recall(chunks)
        yield store


def lock(descriptor: int, folder: Path) -> None:
    """Keep other processes out until this one ends, however it ends."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InvalidInput(f"another run works in {folder}; wait for its end, or choose another OUTPUT") from error


def check_job(folder: Path, job: Job) -> None:
    """Refuse a folder whose chunks belong to another job; one without chunks has nothing to lose."""
    if not any(folder.glob(CHUNKS)):
        return
    if not (folder / JOB).exists():
        raise InvalidInput(f"{folder} has no {JOB}, so its files are not this command's; move them, or give --fresh")
    if different := difference(json.loads((folder / JOB).read_text()), job):
        raise InvalidInput(
            f"{folder} holds rows of another run: {different}; rows of two runs are not mixed. Undo the change to "
            "resume, give --fresh to start again, or choose another OUTPUT"
        )


def write_job(folder: Path, job: Job) -> None:
    """Remember the job, in one rename."""
    staged = folder / f"{STAGED}{JOB}"
    staged.write_text(json.dumps(job))
    staged.replace(folder / JOB)


def clear(folder: Path) -> None:
    """Delete what this module writes, and nothing else."""
    for pattern in (f"{STAGED}*", CHUNKS, JOB):
        for path in folder.glob(pattern):
            path.unlink()


def difference(before: Job, now: Job) -> str:
    """What differs between two jobs, in words; empty when nothing does."""
    for key in {**now, **before}:
        old, new = before.get(key), now.get(key)
        if old != new:
            return input_difference(old, new) if key == "input" else f"{key.replace('_', ' ')} was {old}, is {new}"
    return ""


def input_difference(before: Any, now: Any) -> str:
    """Which file of the input differs, or that the array does."""
    if not (before and now and "files" in before and "files" in now):
        return "INPUT's content is another"
    old, new = ({name: state for name, *state in one["files"]} for one in (before, now))
    for name in sorted({*old, *new}):
        if name not in new or name not in old:
            return f"file {name} of INPUT is {'new' if name in new else 'gone'}"
        if old[name] != new[name]:
            return f"file {name} of INPUT has changed"
    return "INPUT's order is another"


def publish(staged: Path, output: Path) -> None:
    """Put a whole file in its place in one rename, once it is safely on the disk."""
    with staged.open("rb") as file:
        os.fsync(file.fileno())
    staged.replace(output)
