"""Programs that tests need and that do not fit beside our dependencies: each in an environment of its own."""

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from tools.repository import ROOT


def program(name: str, requirement: str, folder: Path = ROOT / "build") -> Path:
    """A program of a package from PyPI, installed at the first call; the test is skipped where it cannot be had."""
    environment = folder / name
    # Written last: what was begun and not finished is begun again.
    finished = environment / requirement
    folder.mkdir(exist_ok=True)
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Another test process may do the same.
        if not finished.is_file():
            _install(environment, requirement)
            finished.touch()
    return environment / "bin" / name


def _install(environment: Path, requirement: str) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", environment], check=True)
    pip = [sys.executable, "-m", "pip", "--python", environment / "bin" / "python", "install", "--quiet", requirement]
    result = subprocess.run(pip, capture_output=True, text=True)
    if result.returncode:
        pytest.skip(f"{requirement} cannot be had: {result.stderr[-200:]}")
