"""The folder of a running server's own files, and a path to the repository that tritonserver can take.

Triton starts the processes of Python-based backends through a shell, without quotes: a blank or a quote in a path ends
them. And what it loads from a folder must be allowed to be executed there.
"""

import os
import shlex
import shutil
import tempfile
from pathlib import Path

from tools.serve.server_error import ServerError

_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")  # where $TMPDIR does not do
_NEEDED_BYTES = 16 * 2**20


def scratch_parent() -> Path:
    """Choose the folder to make the server's folder in: $TMPDIR, or another one if that does not do.

    Raises:
        ServerError: none does.
    """
    usual = [os.environ["TMPDIR"]] if os.environ.get("TMPDIR") else []
    problems = []
    for folder in map(Path, (*usual, *_FOLDERS)):
        problem = _problem(folder)
        if problem is None:
            return folder
        problems.append(f"{folder} {problem}")
    raise ServerError(f"no folder for the server's files: {'; '.join(problems)}; set TMPDIR to one without blanks")


def _problem(folder: Path) -> str | None:
    if not _is_plain(folder):
        return "has a blank or a quote in its path"
    try:
        if os.statvfs(folder).f_flag & os.ST_NOEXEC:
            return "is mounted noexec"
        if shutil.disk_usage(folder).free < _NEEDED_BYTES:
            return f"has less than {_NEEDED_BYTES >> 20} MiB free"
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return f"cannot be used ({error.strerror})"


def plain_path(repository: Path, folder: Path) -> Path:
    """The repository itself, or a link to it in a folder if its path has a blank or a quote."""
    if _is_plain(repository):
        return repository
    link = folder / "model_repository"
    link.symlink_to(repository, target_is_directory=True)
    return link


def _is_plain(path: Path) -> bool:
    return shlex.quote(str(path)) == str(path)
