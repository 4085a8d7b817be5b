"""Output files: tried before the work for them begins, written beside their place, and renamed.

So nothing is computed that cannot be kept, and a reader never sees half a file.
"""

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clients.errors import InvalidInput

# What is being written begins like this; after a power cut, such a file may be left.
STAGED = ".staged-"
_TRIAL_BYTES = 4096


def printable(text: str) -> str:
    r"""A text that UTF-8 can represent: bytes of a file name that are none become escapes, such as \xe9."""
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")


def try_folder(folder: Path, option: str) -> None:
    """Make a folder for results, and write to it on trial; `option` is what names it.

    Raises:
        InvalidInput: it cannot be made or written to, or its disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_TRIAL_BYTES))
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidInput(f"nothing can be written to {folder}: {reason}; choose another {option}") from error


@contextmanager
def staged(path: Path, folder: Path | None = None) -> Iterator[Path]:
    """Yield a path to write to; the file takes its place in one rename, or is removed if the block fails.

    Until then, it is in `folder`, on the same disk (default: beside `path`); the folder of `path` must exist.
    """
    place = (folder or path.parent) / f"{STAGED}{secrets.token_hex(4)}-{path.name}"
    try:
        yield place
        with place.open("rb") as file:
            os.fsync(file.fileno())
        place.replace(path)
    except BaseException:
        place.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, text: str) -> None:
    """Write a text file, as UTF-8, in one rename; its folder must exist."""
    with staged(path) as place:
        place.write_text(text, encoding="utf-8")
