"""Files of data sets: read with an error that says what to do, written so that half a set is never found."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.datasets import DataError

# torchvision has no error of its own: it raises RuntimeError for what is missing or has the wrong checksum,
# and meets damaged contents with whatever its assertions, conversions and look-ups happen to raise.
UNREADABLE = (OSError, RuntimeError, ValueError, AssertionError, LookupError)


@contextmanager
def reading(title: str, folder: Path, remedy: str) -> Iterator[None]:
    """Turn what a loader raises in the block into an error that names data set, folder and remedy.

    Raises:
        DataError: the block failed to read the files or to download them.
    """
    try:
        yield
    except UNREADABLE as error:
        # The last line, because torchvision lists every mirror that it tried.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(f"{title} cannot be had from {folder} ({lines[-1]}); {remedy}") from error


def require(files: Iterable[Path]) -> None:
    """Check that files are there.

    Raises:
        FileNotFoundError: some are missing; the message names them.
    """
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"missing: {', '.join(missing)}")


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A folder to fill beside `target`, renamed to it when the block ends well and removed when it does not.

    An incomplete `target` of an earlier version is removed first. If another process finishes the same folder
    meanwhile, its files stay and these are dropped: what is written here is the same every time.

    Raises:
        DataError: the folder cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            shutil.rmtree(target)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
            folder = Path(scratch) / target.name
            folder.mkdir()
            yield folder
            move(folder, target)
    except OSError as error:
        raise DataError(f"cannot write {target} ({error.strerror}); make room or permit writing there") from error


def move(folder: Path, target: Path) -> None:
    """Rename a finished folder, unless the target is there by now."""
    try:
        os.rename(folder, target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
