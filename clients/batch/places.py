"""Files wherever pyarrow reaches: a path of this host, s3://, gs://, abfss:// or hdfs://.

    place = place_of("s3://bucket/rows?region=eu-central-1")
    place.write("_job.json", b"{}")

A reader never sees half a file: on this host it is renamed into its place, and object stores show an object once all of
it is there.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients.errors import InvalidInput
from clients.installation import how_to_install
from clients.output import printable, staged


@dataclass(frozen=True)
class File:
    """A file below a place: its name from there, its size and the time of its last change."""

    name: str
    size: int
    mtime_ns: int

    @property
    def is_shown(self) -> bool:
        """Whether neither it nor a folder on the way to it has a name that begins with _ or a dot."""
        return not any(part.startswith(("_", ".")) for part in self.name.split("/"))


@dataclass(frozen=True)
class Place:
    """A folder or a file; a plain value, which another process may get."""

    filesystem: Any
    path: str
    text: str  # as it is shown: without what a URI has of options and keys

    @property
    def is_local(self) -> bool:
        """Whether its files are paths of this host."""
        return str(self.filesystem.type_name) == "local"

    def below(self, name: str) -> str:
        """The path of a file; the place itself if the name is empty."""
        return f"{self.path}/{name}" if name else self.path

    def files(self) -> list[File]:
        """All files below, by name; the place itself, without a name, if it is a file; none if nothing is there."""
        from pyarrow import fs

        with _said(self):
            (own,) = self.filesystem.get_file_info([self.path])
            if own.is_file:
                return [File("", own.size, own.mtime_ns)]
            selector = fs.FileSelector(self.path, allow_not_found=True, recursive=True)
            infos = [info for info in self.filesystem.get_file_info(selector) if info.is_file]
            start = len(self.path) + 1
            files = [File(info.path[start:], info.size, info.mtime_ns) for info in infos]
        return sorted(files, key=lambda file: file.name.split("/"))  # as paths are sorted

    def open(self, name: str = "") -> Any:
        """Open a file at any of its bytes: pyarrow's NativeFile."""
        return self.filesystem.open_input_file(self.below(name))

    def read(self, name: str = "") -> bytes:
        """Read a whole file."""
        with self.open(name) as file:
            return bytes(file.read())

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all; folders are made."""
        path = self.below(name)
        with _said(self):
            if not self.is_local:
                with self.filesystem.open_output_stream(path) as stream:
                    stream.write(content)
                return
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with staged(Path(path)) as place:
                place.write_bytes(content)

    def remove(self, name: str) -> None:
        """Delete a file."""
        with _said(self):
            self.filesystem.delete_file(self.below(name))

    def remove_folder(self, name: str) -> None:
        """Delete a folder and what is in it, if it is there."""
        with suppress(FileNotFoundError), _said(self):
            self.filesystem.delete_dir(self.below(name))


def place_of(text: str) -> Place:
    """The place that a path or a URI names; nothing need be there.

    Raises:
        InvalidInput: pyarrow does not know the URI, or is missing.
    """
    try:
        import pyarrow as pa
        from pyarrow import fs
    except ImportError as error:
        raise InvalidInput(f"{text}: this needs pyarrow ({error}); run {how_to_install('client')}") from error
    if not text or "\0" in text or printable(text) != text:
        raise InvalidInput(f"'{printable(text)}': expected a path in UTF-8, or a URI")
    if "://" not in text:
        return Place(fs.LocalFileSystem(), str(Path(text).resolve()), text)
    shown = without_keys(text)
    try:
        filesystem, path = fs.FileSystem.from_uri(text)
    except (pa.ArrowException, OSError, ValueError) as error:
        # Its words repeat the URI, and where that is malformed, keys may be anywhere before an @.
        shown = without_keys(re.sub("//.*@", "//", text))
        reason = str(error).partition("\n")[0].replace(text, shown)
        raise InvalidInput(
            f"{shown} is no place that pyarrow knows ({reason}); expected a path, s3://, gs://, abfss:// or hdfs://"
        ) from error
    return Place(filesystem, path.rstrip("/"), shown)


def without_keys(text: str) -> str:
    """A path, or a URI without its options and keys."""
    return re.sub("//[^/]*@", "//", text.partition("?")[0]).rstrip("/") if "://" in text else text


def check_apart(source: Place, output: Place) -> None:
    """Refuse an output in its own input, whose next run would take it for rows, and the other way round.

    Raises:
        InvalidInput: one of the places lies in the other, or both are the same.
    """
    paths = [Path(os.path.realpath(place.path) if place.is_local else place.path) for place in (source, output)]
    if source.filesystem.equals(output.filesystem) and any(a.is_relative_to(b) for a, b in (paths, paths[::-1])):
        raise InvalidInput(
            f"OUTPUT {output.text} and INPUT {source.text} lie one in the other, and the output's files would be taken "
            "for rows; choose an OUTPUT beside INPUT"
        )


@contextmanager
def _said(place: Place) -> Iterator[None]:
    """Name the place in an error of an object store, which says "AWS Error" and no more."""
    try:
        yield
    except FileNotFoundError:
        raise
    except UnicodeError as error:
        raise InvalidInput(f"{place.text}: pyarrow reads no file names that are not UTF-8 ({error})") from error
    except OSError as error:
        raise InvalidInput(f"{printable(place.text)}: {error.strerror or error}") from error
