"""The native pytorch backend: compiled once from `tools/backends/native`, kept in build/native.

Compiling needs a C++20 compiler; using what was compiled does not, so that an image can leave the compiler out. Without
either, the Python-based backend of the same name serves the same files.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clients import installation
from clients.lifetime import leashed
from tools.serve.server_error import ServerError
from tools.serve.wheel import wheel_path

Backend = Literal["native", "python"]
BACKENDS = ("auto", "native", "python")
LIBRARY = "libtriton_pytorch.so"
SOURCES = Path(__file__).parent.parent / "backends" / "native"
CACHE = Path(os.environ.get("TRITON_NATIVE_CACHE", installation.CACHE / "native"))
REMEDY = "install a C++20 compiler (Debian, Ubuntu: apt install g++)"
FLAGS = ("-std=c++20", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-fvisibility-inlines-hidden")


@dataclass(frozen=True)
class Choice:
    """The backend that serves TorchScript: `library` is the compiled one, None the Python-based one and why."""

    library: Path | None
    reason: str

    @property
    def name(self) -> Backend:
        """Its name, as reports give it."""
        return "native" if self.library else "python"


def choose_backend(wanted: str, say: Callable[[str], None] | None = None) -> Choice:
    """Choose the backend for TorchScript, and compile the native one if need be.

    Args:
        wanted: one of BACKENDS; auto is native where it can be compiled and loaded.
        say: called with a line before a compilation starts.

    Raises:
        ServerError: the native backend is asked for and cannot be had.
    """
    if wanted == "python":
        return Choice(None, "chosen with --backend python")
    try:
        return Choice(_library(say), "compiled for this torch")
    except ServerError as error:
        if wanted == "native":
            raise
        return Choice(None, str(error))


def _compiler() -> str:
    for name in filter(None, (os.environ.get("CXX"), "c++", "g++", "clang++")):
        if path := shutil.which(name):
            return path
    raise ServerError(f"no C++ compiler was found; {REMEDY}")


def _library(say: Callable[[str], None] | None) -> Path:
    """Return the compiled library; compile it unless the cache has it for these sources and this torch."""
    library = CACHE / _key() / LIBRARY
    if library.is_file():
        return library
    compiler = _compiler()
    library.parent.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Several servers may start at once.
        if not library.is_file():
            if say:
                say("compiling the native pytorch backend, once, about 15 s …")
            _compile(compiler, library)
    return library


def _key() -> str:
    """Identify what a compilation is made from: sources, flags, torch's version and place."""
    torch = wheel_path("torch")
    digest = hashlib.sha256(repr((FLAGS, str(torch))).encode())
    digest.update((torch / "version.py").read_bytes())
    for source in sorted(SOURCES.iterdir()):
        digest.update(source.name.encode() + source.read_bytes())
    return digest.hexdigest()[:16]


def _compile(compiler: str, library: Path) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        staged = Path(folder) / LIBRARY
        english = {**os.environ, "LC_ALL": "C"}
        result = subprocess.run(leashed([compiler, *_arguments(staged)]), capture_output=True, text=True, env=english)
        if result.returncode:
            errors = [line for line in result.stderr.splitlines() if "error" in line]
            raise ServerError(f"the native backend does not compile ({' '.join(errors[:1])}); {REMEDY}")
        _try_loading(staged)
        staged.replace(library)


def _arguments(output: Path) -> list[str]:
    torch = wheel_path("torch")
    includes = [f"-isystem{torch / 'include'}", f"-isystem{torch / 'include' / 'torch' / 'csrc' / 'api' / 'include'}"]
    # The linker would drop libtorch, which registers the operators and, in a CUDA build, the device.
    libraries = ["-Wl,--no-as-needed", "-ltorch", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{torch / 'lib'}"]
    source = str(SOURCES / "backend.cc")
    return [*FLAGS, *includes, source, "-o", str(output), f"-L{torch / 'lib'}", *libraries]


def _try_loading(library: Path) -> None:
    # In a process of its own. Triton's functions are bound when they are called, so they may be missing here.
    program = f"import ctypes, os; ctypes.CDLL({str(library)!r}, os.RTLD_LAZY)"
    result = subprocess.run(leashed([sys.executable, "-c", program]), capture_output=True, text=True)
    if result.returncode:
        raise ServerError(f"the native backend cannot be loaded: {result.stderr.strip().splitlines()[-1]}")
