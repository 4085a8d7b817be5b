"""Files of data sets: downloaded, read with an error that names the remedy, and never left incomplete."""

import errno
import os
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.datasets import DataError

# torchvision has no error class: it raises RuntimeError for missing files and wrong checksums, and whatever its
# assertions, conversions and look-ups happen to raise for damaged contents.
_UNREADABLE = (OSError, RuntimeError, ValueError, AssertionError, LookupError)


@contextmanager
def network_timeout(seconds: float = 20.0) -> Iterator[None]:
    """Let network operations in the block raise TimeoutError when they have waited this long for a byte.

    torchvision sets no limit, and a network that drops packets blocks for minutes.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextmanager
def reading(title: str, folder: Path, remedy: str) -> Iterator[None]:
    """Turn errors of a loader in the block into a DataError that names data set, folder and remedy."""
    try:
        yield
    except _UNREADABLE as error:
        # The last line: torchvision lists every mirror that it has tried.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(f"cannot read {title} from {folder} ({lines[-1]}); {remedy}") from error


def require(files: Iterable[Path]) -> None:
    """Raise FileNotFoundError with the names of the files that are missing, if any."""
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"missing: {', '.join(missing)}")


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Give a folder to fill, renamed to `target` after the block and removed if the block raises.

    An incomplete `target` of an earlier release is removed first. If another process finishes the same folder
    meanwhile, its files stay and these are dropped: the content is the same every time.

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
            try:
                os.rename(folder, target)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
    except OSError as error:
        raise DataError(f"cannot write {target} ({error.strerror}); free some space, or allow writing there") from error
