"""Output files: written beside their place and renamed, so that a reader never sees half of one."""

import os
import tempfile
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Write a text file in one rename.

    Args:
        path: where; its folder must exist.
        text: the content, written as UTF-8.
    """
    handle, staged = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            os.fchmod(stream.fileno(), 0o644)
        os.replace(staged, path)
    except BaseException:
        os.unlink(staged)
        raise
