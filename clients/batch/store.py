"""The finished part of a large inference: chunks of rows in OUTPUT.partial/, each written whole or not at all.

However a run ends, the next one finds every finished chunk and continues with those that are missing. The folder's
job.json says whose rows they are; rows of another job are refused, so that two jobs never mix.
"""

import fcntl
import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from clients.batch.chunks import Chunk, note_heads
from clients.contract import Array
from clients.errors import InvalidInput
from clients.output import STAGED, staged, write_atomically

_JOB, _LOCK, _CHUNKS = "job.json", "lock", "[0-9]" * 8 + ".npz"
Job = Mapping[str, Any]


@dataclass(frozen=True)
class Finished:
    """What stays in memory of a finished chunk: its number of rows and errors, the place of its first good row."""

    rows: int
    errors: int
    first_good: int | None


@dataclass
class Store:
    """The finished chunks of one job, and a row of each output, [1, ...], for its dtype and shape."""

    folder: Path
    begun: int  # the version with which the run began
    finished: dict[int, Finished] = field(default_factory=dict)
    heads: dict[str, Array] = field(default_factory=dict)
    versions: set[int] = field(default_factory=set)  # that were asked for these rows

    @property
    def rows(self) -> int:
        """How many rows are finished, good or not."""
        return sum(chunk.rows for chunk in self.finished.values())

    @property
    def errors(self) -> int:
        """How many finished rows have an error."""
        return sum(chunk.errors for chunk in self.finished.values())

    def add(self, index: int, chunk: Chunk) -> None:
        """Write a chunk to disk; it survives whatever happens to this process afterwards.

        Raises:
            InvalidInput: the rows of an output differ in shape or dtype from earlier ones.
        """
        self._note(index, chunk)
        arrays = {f"output/{name}": array for name, array in chunk.outputs.items()}
        # In memory first: on a full disk, a half-written archive would complain when it is forgotten.
        content = io.BytesIO()
        np.savez(content, errors=chunk.errors, versions=chunk.versions, **arrays)
        with staged(self.folder / f"{index:08d}.npz") as path:
            path.write_bytes(content.getbuffer())

    def read(self, index: int) -> Chunk:
        """Read a finished chunk from disk."""
        with (self.folder / f"{index:08d}.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            names = [name for name in arrays.files if name.startswith("output/")]
            outputs = {name.removeprefix("output/"): arrays[name] for name in names}
            errors, known = arrays["errors"], "versions" in arrays.files  # Earlier releases did not write them.
            return Chunk(errors, outputs, arrays["versions"] if known else np.full(len(errors), self.begun))

    def recall(self, chunks: Sequence[range]) -> None:
        """Find the chunks of earlier runs, except those that are damaged or have another number of rows."""
        for path in self.folder.glob(_CHUNKS):
            index = int(path.stem)
            try:
                chunk = self.read(index)
            except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
                continue  # A power cut left it half written.
            if index < len(chunks) and len(chunk.errors) == len(chunks[index]):
                self._note(index, chunk)

    def remove(self) -> None:
        """Delete the folder, the job last: if a kill interrupts it, whole chunks of a known job are left."""
        _clear(self.folder)
        (self.folder / _LOCK).unlink()
        with suppress(OSError):  # Somebody else's files stay, and so does the folder.
            self.folder.rmdir()

    def _note(self, index: int, chunk: Chunk) -> None:
        note_heads(self.heads, chunk)
        self.versions.update(chunk.versions.tolist())
        good = chunk.good
        first = int(good.argmax()) if good.any() else None
        self.finished[index] = Finished(len(good), int((~good).sum()), first)


@contextmanager
def open_store(folder: Path, job: Job, chunks: Sequence[range], fresh: bool = False) -> Iterator[Store]:
    """Open the store of a job, for this process alone, with the chunks of earlier runs.

    The job says, as JSON, what the rows are and what is done with them; `chunks` are the rows of each chunk. With
    `fresh`, the chunks of earlier runs are deleted, of whatever job.

    Raises:
        InvalidInput: the folder has chunks of another job or files of another origin, or another process uses it.
    """
    folder.mkdir(exist_ok=True)
    with locked(folder / _LOCK):
        if fresh:
            _clear(folder)
        _check_job(folder, job)
        write_atomically(folder / _JOB, json.dumps(job))
        store = Store(folder, int(job["model_version"] or 0))
        store.recall(chunks)
        yield store


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold a lock file, which is made, in a folder that one process at a time may write to.

    Raises:
        InvalidInput: another process has it.
    """
    with file.open("w") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)  # The kernel releases it, however this process ends.
        except BlockingIOError as error:
            raise InvalidInput(
                f"another run uses {file.parent}; wait until it ends, or choose another OUTPUT"
            ) from error
        yield


def version_begun(folder: Path) -> str | None:
    """The model version with which the run began whose chunks are in a folder; None if there are none."""
    if not any(folder.glob(_CHUNKS)) or not (folder / _JOB).exists():
        return None
    return str(json.loads((folder / _JOB).read_text())["model_version"])


def _check_job(folder: Path, job: Job) -> None:
    """Refuse a folder with chunks of another job; one without chunks has nothing to lose."""
    if not any(folder.glob(_CHUNKS)):
        return
    if not (folder / _JOB).exists():
        raise InvalidInput(f"{folder} has no {_JOB}, so its files are not this command's; move them, or give --fresh")
    if different := difference(json.loads((folder / _JOB).read_text()), job):
        raise InvalidInput(
            f"{folder} has rows of another run: {different}; rows of two runs are not mixed. Undo the change to "
            "resume, give --fresh to start again, or choose another OUTPUT"
        )


def _clear(folder: Path) -> None:
    """Delete what this module writes, and nothing else."""
    for pattern in (f"{STAGED}*", _CHUNKS, _JOB):
        for path in folder.glob(pattern):
            path.unlink()


def difference(before: Job, now: Job) -> str:
    """Say what differs between two jobs; empty if nothing does."""
    for key in {**now, **before}:
        old, new = before.get(key), now.get(key)
        if old != new and key != "input":
            return f"{key.replace('_', ' ')} was {old}, is {new}"
        if old != new:
            break
    else:
        return ""
    if not (old and new and "files" in old and "files" in new):
        return "INPUT's content has changed"
    old, new = ({name: state for name, *state in source["files"]} for source in (old, new))
    for name in sorted({*old, *new}):
        if name not in new or name not in old:
            return f"file {name} of INPUT is {'new' if name in new else 'gone'}"
        if old[name] != new[name]:
            return f"file {name} of INPUT has changed"
    return "INPUT's order has changed"
