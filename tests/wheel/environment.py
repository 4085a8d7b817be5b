"""The wheel, built, and installed into environments of its own without a network."""

import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

from tools.repository import ROOT

# Imports every module of the package, and prints what could not be imported and which of ours came from elsewhere.
IMPORT_ALL = """
import importlib, json, pkgutil, sys
import triton_repo
failed = {}
for module in pkgutil.walk_packages(triton_repo.__path__, "triton_repo."):
    # Locust's file changes the process; the others run in Triton's.
    if module.name.endswith((".locustfile", ".__main__.__main__")) or ".backends." in module.name:
        continue
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        failed[module.name] = getattr(error, "name", None) or str(error)
print(json.dumps([failed, sorted({"tools", "clients", "loadtest"} & sys.modules.keys())]))
"""


def build(folder: Path) -> Path:
    """Build the wheel into a folder."""
    line = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(line, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


@dataclass(frozen=True)
class Environment:
    """A virtual environment in a folder."""

    folder: Path

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    @property
    def site(self) -> Path:
        (site,) = self.folder.glob("lib/python3.*/site-packages")
        return site

    @property
    def installed(self) -> Distribution:
        """Our distribution there."""
        (info,) = self.site.glob("triton_repo-*.dist-info")
        return PathDistribution(info)

    def run(self, *line: str | Path, cwd: Path, timeout: float = 60, **more: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of this environment in a folder, as a shell finds it once the environment is activated."""
        own = {"PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "200"}
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        words = [str(self.folder / "bin" / line[0]), *map(str, line[1:])] if line[0] != "bash" else [*map(str, line)]
        return subprocess.run(
            words, cwd=cwd, env={**inherited, **own, **more}, capture_output=True, text=True, timeout=timeout
        )


def install(wheel: Path, folder: Path) -> Environment:
    """Make an environment with the wheel and nothing else."""
    venv.create(folder, symlinks=True, with_pip=False)
    made = Environment(folder)
    pip = [sys.executable, "-m", "pip", "--python", made.python, "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", str(wheel)], check=True)
    return made


def link_extra(made: Environment, extra: str) -> None:
    """Add what an extra of the wheel asks for, and nothing else, as links to what this environment has."""
    here = Path(sysconfig.get_path("purelib"))
    for name in sorted(_closure(made.installed, extra)):
        for top in {file.parts[0] for file in distribution(name).files or () if file.parts[0] != ".."}:
            if not (made.site / top).exists() and (here / top).exists():
                (made.site / top).symlink_to(here / top)


def link_all(made: Environment) -> None:
    """Add all that this environment has."""
    (made.site / "all.pth").write_text(sysconfig.get_path("purelib"))


def _closure(root: Distribution, extra: str) -> set[str]:
    found: set[str] = set()
    todo = [*_requirements(root, {extra})]
    while todo:
        wanted = todo.pop()
        if wanted.name != root.name:
            found.add(wanted.name)
        todo += _requirements(root if wanted.name == root.name else distribution(wanted.name), wanted.extras)
    return found


def _requirements(of: Distribution, extras: set[str]) -> Iterator[Requirement]:
    for wanted in map(Requirement, of.requires or ()):
        if not wanted.marker or any(wanted.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield wanted
