"""The build of the wheel: the rooms of this repository in one package, `triton_repo`, with imports and texts to match.

hatchling, the build backend that pyproject.toml names, runs this file; `make wheel` and `pip install .` run hatchling.
"""

import ast
import re
import runpy
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "triton_repo"
ROOMS = ("clients", "loadtest", "tools")
# What makes, shows and measures this repository's own models.
LEFT_OUT = ("tools/bench", "tools/compare", "tools/demo.py", "tools/steps/python")
# What code reads besides the rooms.
DATA = ("deploy/haproxy",)
_COMMAND = re.compile(rf"python -m ((?:{'|'.join(ROOMS)})\.\w+)")


def rewritten(source: str, command_name: Callable[[str], str]) -> str:
    """A module's text as the wheel has it: imports of ours from within the package, commands as `triton-repo NAME`.

    Raises:
        ValueError: it imports one of ours in a form that cannot be rewritten.
    """
    lines = source.encode().split(b"\n")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import) and any(_is_ours(alias.name) for alias in node.names):
            raise ValueError(f"line {node.lineno}: `import {node.names[0].name}`; write `from … import …`")
        if isinstance(node, ast.ImportFrom) and _is_ours(node.module or ""):
            line, place = lines[node.lineno - 1], node.col_offset + len("from ")
            lines[node.lineno - 1] = line[:place] + f"{PACKAGE}.".encode() + line[place:]
    return _COMMAND.sub(lambda found: f"triton-repo {command_name(found[1])}", b"\n".join(lines).decode())


def _is_ours(module: str) -> bool:
    return module.split(".")[0] in ROOMS


def assemble(root: Path, package: Path) -> None:
    """Fill the folder of the package from a clone."""
    recipes = [f"tools/recipes/{file.name}" for file in (root / "tools" / "recipes").glob("[!_]*.py")]
    left_out = {root / place for place in (*LEFT_OUT, *recipes)}

    def ignored(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if name == "__pycache__" or Path(folder, name) in left_out]

    for place in (*ROOMS, *DATA):
        shutil.copytree(root / place, package / place, ignore=ignored)
    (package / "__init__.py").write_text('"""Tools and clients for repositories of Triton Inference Server."""\n')
    (package / "py.typed").touch()
    command_name = runpy.run_path(str(root / "clients" / "installation.py"))["command_name"]
    for file in package.rglob("*.py"):
        try:
            file.write_text(rewritten(file.read_text("utf-8"), command_name), "utf-8")
        except ValueError as error:
            raise ValueError(f"{file.relative_to(package)}: {error}") from error


class CustomBuildHook(BuildHookInterface):
    """What hatchling calls before and after it builds a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Assemble the package beside the clone's files, and have it packed."""
        if version == "editable":
            raise ValueError("a clone is used as it is: `make setup`, then `python -m tools.check`")
        self._folder = Path(tempfile.mkdtemp())
        assemble(Path(self.root), self._folder / PACKAGE)
        build_data["force_include"][str(self._folder / PACKAGE)] = PACKAGE

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was assembled."""
        shutil.rmtree(self._folder)
