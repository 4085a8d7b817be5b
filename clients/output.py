"""Output files: written beside their place and renamed, so that a reader never sees half of one."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# What is being written begins like this; after a power cut, such a file may be left.
STAGED = ".staged-"


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
