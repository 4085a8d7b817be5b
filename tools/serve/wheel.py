"""The `nvidia-pytriton` wheel, which carries tritonserver; every fact about its layout is in this module."""

import importlib.util
import os
import shutil
import sys
from functools import cache
from pathlib import Path

from clients.installation import how_to_install
from tools.serve.server_error import ServerError

BACKENDS = Path(__file__).parent.parent / "backends"


def wheel_path(package: str) -> Path:
    """Find the folder of an installed package without importing it.

    Raises:
        ServerError: it is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ServerError(f"the Python package {package} is not installed; run {how_to_install('serve')}")
    return Path(spec.submodule_search_locations[0])


def assemble_backends(folder: Path, native: Path | None) -> None:
    """Fill a --backend-directory: the wheel's Python backend with the stub for this Python, and ours: pytorch, vllm.

    Files are copied, because Triton refuses a backend that is a link to another folder.

    Args:
        folder: an empty folder.
        native: the compiled pytorch backend; None for the Python-based one.

    Raises:
        ServerError: the wheel has no stub for this version of Python.
    """
    wheel = wheel_path("pytriton") / "tritonserver"
    stub = wheel / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}"
    if not stub.is_dir():
        known = ", ".join(sorted(path.name for path in stub.parent.iterdir()))
        raise ServerError(f"nvidia-pytriton has no stub for Python {stub.name}; it has {known}")
    python = folder / "python"
    python.mkdir()
    for source in (*(wheel / "backends" / "python").glob("*.*"), stub / "triton_python_backend_stub"):
        shutil.copy2(source, python)
    if native:
        (folder / "pytorch").mkdir()
        shutil.copy2(native, folder / "pytorch")
    else:
        _copy("pytorch", folder)
    _copy("vllm", folder)


def _copy(backend: str, folder: Path) -> None:
    shutil.copytree(BACKENDS / backend, folder / backend, ignore=shutil.ignore_patterns("__pycache__"))


def refuse_without_libpython() -> None:
    """Raise ServerError if the stubs of the Python backend cannot start, which need Python's shared library."""
    if _libpython() is None:
        name = f"libpython{sys.version_info.major}.{sys.version_info.minor}"
        raise ServerError(
            f"Python models need {name}.so, and {sys.executable} was built without it; install it (Debian, Ubuntu: "
            f"apt install {name}), or use a Python of uv, conda or actions/setup-python"
        )


@cache
def _libpython() -> str | None:
    """The folder of Python's shared library; empty where the system's loader finds it, None where there is none."""
    import sysconfig
    from ctypes.util import find_library

    if find_library(f"python{sys.version_info.major}.{sys.version_info.minor}"):
        return ""
    folder, name = (sysconfig.get_config_var(each) or "" for each in ("LIBDIR", "INSTSONAME"))
    return folder if ".so" in name and Path(folder, name).is_file() else None


def environment() -> dict[str, str]:
    """Build the server's environment: the wheel's libraries, and this Python first on PATH for the stubs."""
    own = [str(wheel_path("pytriton").parent / "nvidia_pytriton.libs"), _libpython()]
    libraries = os.pathsep.join(filter(None, own))
    paths = {"LD_LIBRARY_PATH": libraries, "PATH": str(Path(sys.executable).parent)}
    joined = {name: os.pathsep.join(filter(None, (path, os.environ.get(name)))) for name, path in paths.items()}
    return {**os.environ, **joined, "PYTHONDONTWRITEBYTECODE": "1"}
