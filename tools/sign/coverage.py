"""The files that the signature of a version covers.

They are all files that the server, or the model's own Python, might read, under the paths that they have when served:
publishing a held version keeps its signature valid, and moving it to another model or number does not. Not covered are
other versions, `configs/cpu.pbtxt` if it is what config.pbtxt derives to, and what is written about a version later.

Python's caches are covered although no signature contains one: Python runs `__pycache__` in place of the sources, and
nobody can tell what is in it. Tritonserver's Python writes caches whatever its environment says, so they are removed
before a version is signed or served.
"""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tools.cpu_config import cpu_config_text
from tools.repository import (
    CPU_CONFIG,
    HELD,
    REPOSITORY,
    SIGNATURE_FILE,
    STAGING,
    VERIFICATION_FILE,
    RepositoryError,
    config_path,
    read_config,
    selected_versions,
    version_path,
    versions,
)

CACHE = "__pycache__"


def served_versions(model: str, repository: Path = REPOSITORY) -> list[int]:
    """The versions that a server would load under any of the model's configs; usually the newest one."""
    names = [None, *sorted(path.stem for path in (repository / model / "configs").glob("*.pbtxt"))]
    existing = versions(model, repository)
    configs = [read_config(model, name, repository) for name in names]
    return sorted({version for config in configs for version in selected_versions(config, existing)})


def covered(model: str, version: int, repository: Path = REPOSITORY, staged: Path | None = None) -> dict[str, Path]:
    """The files of a version by the paths that they have when served; `staged` is the folder of an unpublished one."""
    root, others = repository / model, {HELD, *map(str, versions(model, repository))}
    beside = (path for path in root.iterdir() if path.name not in others and not path.name.startswith(STAGING))
    files = {name: file for path in beside for name, file in _walk(path, f"{model}/{path.name}")}
    folder = f"{model}/{version}"
    files |= dict(_walk(staged or version_path(model, version, repository), folder))
    for written_later in (SIGNATURE_FILE, VERIFICATION_FILE):
        files.pop(f"{folder}/{written_later}", None)
    derived = config_path(model, CPU_CONFIG, repository)
    # Where there is none, or config.pbtxt is unreadable, nothing is derived.
    with suppress(OSError, RepositoryError):
        if derived.read_bytes() == cpu_config_text(model, repository).encode():
            del files[f"{model}/configs/{CPU_CONFIG}.pbtxt"]
    return dict(sorted(files.items()))


def _walk(path: Path, name: str) -> Iterator[tuple[str, Path]]:
    # Through links too, because a server follows them.
    if not path.is_dir():
        yield name, path
        return
    for child in path.iterdir():
        yield from _walk(child, f"{name}/{child.name}")


def remove_caches(model: str, repository: Path = REPOSITORY) -> None:
    """Remove Python's caches from a model's folder as far as possible; Python rewrites them from the sources."""
    for cache in list((repository / model).rglob(CACHE)):
        shutil.rmtree(cache, ignore_errors=True)  # Links are not followed; verification reports them.


@contextmanager
def as_served(files: Mapping[str, Path], name: str) -> Iterator[Path]:
    """Create a temporary folder called `name` with a link to each file under its path."""
    with tempfile.TemporaryDirectory(prefix="signature-") as scratch:
        top = Path(scratch) / name
        for file, path in files.items():
            link = top / file
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.absolute())
        yield top
