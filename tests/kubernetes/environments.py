"""Programs that tests need and that do not fit beside our dependencies: each in an environment of its own."""

import subprocess
import sys
from pathlib import Path

from tools.repository import ROOT


def program(name: str, requirement: str) -> Path:
    """A program of a package from PyPI; installed at the first call."""
    environment = ROOT / "build" / name
    if not (environment / "bin" / name).is_file():
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        subprocess.run([environment / "bin" / "pip", "install", "--quiet", requirement], check=True)
    return environment / "bin" / name
