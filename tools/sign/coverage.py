"""What belongs to a version of a model as it is served: the files that its signature covers.

Everything in the model's folder that the server, or the model's own Python, might read, under the names that it has
while it is served, `<model>/config.pbtxt` and `<model>/<version>/model.pt`: a version that is held, or still being
written, has the same names, so that no rename invalidates a signature, and one that is moved to another model or number
does. Left out are other versions, what is derived from config.pbtxt at each start (`configs/cpu.pbtxt`, if it really
is), and what is written about a version afterwards: its signature and its verification.

Python's caches are covered, although no signature names one: Python reads `__pycache__` in place of the sources, and
nobody can tell what is in it. Tritonserver's Python writes them whatever its environment says, so they are removed
before a version is signed or served.
"""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
    """The versions that a server loads, whichever of the model's configs it uses: mostly the newest one.

    Raises:
        RepositoryError: a config cannot be read.
    """
    names = [None, *sorted(path.stem for path in (repository / model / "configs").glob("*.pbtxt"))]
    there = versions(model, repository)
    return sorted({one for name in names for one in selected_versions(read_config(model, name, repository), there)})


def covered(model: str, version: int, repository: Path = REPOSITORY, staged: Path | None = None) -> dict[str, Path]:
    """The files that belong to a version, by the names that they have where it is served.

    Args:
        model: its name.
        version: its number.
        repository: where the model has its folder.
        staged: where the version lies, if it is not published yet.
    """
    root, others = repository / model, {HELD, *map(str, versions(model, repository))}
    beside = (path for path in root.iterdir() if path.name not in others and not path.name.startswith(STAGING))
    files = {name: file for path in beside for name, file in walk(path, f"{model}/{path.name}")}
    folder = f"{model}/{version}"
    files |= dict(walk(staged or version_path(model, version, repository), folder))
    for written_later in (SIGNATURE_FILE, VERIFICATION_FILE):
        files.pop(f"{folder}/{written_later}", None)
    if is_derived(model, repository):
        del files[f"{model}/configs/{CPU_CONFIG}.pbtxt"]
    return dict(sorted(files.items()))


def walk(path: Path, name: str) -> Iterator[tuple[str, Path]]:
    """All that is no folder at and below a path, through links too: a server follows them."""
    if not path.is_dir():
        yield name, path
        return
    for child in path.iterdir():
        yield from walk(child, f"{name}/{child.name}")


def remove_caches(model: str, repository: Path = REPOSITORY) -> None:
    """Remove Python's caches from a model's folder, as far as possible: it writes them anew from the sources."""
    for cache in list((repository / model).rglob(CACHE)):
        shutil.rmtree(cache, ignore_errors=True)  # Not through a link, which is then found by whoever verifies.


def is_derived(model: str, repository: Path) -> bool:
    """Whether configs/cpu.pbtxt is what config.pbtxt makes of it, to the letter: then it needs no signature."""
    path = config_path(model, CPU_CONFIG, repository)
    try:
        return path.read_bytes() == cpu_config_text(model, repository).encode()
    except (OSError, RepositoryError):
        return False  # Nothing to leave out, or a config.pbtxt that was altered beyond reading.


@contextmanager
def as_served(files: Mapping[str, Path], name: str) -> Iterator[Path]:
    """A folder of links to files under their names, for as long as the block lasts; it is called `name`."""
    with tempfile.TemporaryDirectory(prefix="signature-") as scratch:
        top = Path(scratch) / name
        for file, path in files.items():
            link = top / file
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.absolute())
        yield top
