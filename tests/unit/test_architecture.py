"""The arrows between the rooms: what may import what, read from the source, not from what happens to be loaded."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.repository import ROOT, model_names

# A room → the top-level packages that it must not import, anywhere.
FORBIDDEN = {
    "clients": {"torch", "torchvision", "tools", "loadtest", "locust", "sklearn"},
    "loadtest": {"torch", "torchvision", "tools", "sklearn"},
    "tools": {"loadtest", "locust", "tests"},
}
# Tuning is measuring: it alone, among the tools, builds on the load test.
TUNING = ("tools/tune.py", "tools/tune_together.py", "tools/bench_tune.py", "tools/tuning/")
# Commands that must start in a moment.
WITHOUT_TORCH = (
    "tools.repository",
    "tools.serve",
    "tools.new",
    "tools.server.tritonserver",
    "tools.demo",
    "tools.check",
    "tools.sign",
    "tools.tune",
    "tools.tune_together",
    "clients.classify",
    "clients.router",
    "loadtest.run",
    "loadtest.peak",
    "loadtest.diff",
)


def sources(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_imports_only_along_the_arrows(room: str) -> None:
    assert sources(room)
    found = {(str(path.relative_to(ROOT)), name) for path in sources(room) for name in imports(path)}
    allowed = {(file, name) for file, name in found if file.startswith(TUNING) and name.split(".")[0] == "loadtest"}
    assert not {(file, name) for file, name in found - allowed if name.split(".")[0] in FORBIDDEN[room]}


def test_what_verifies_signatures_is_loaded_only_where_there_is_a_key() -> None:
    program = "import sys, tools.check, tools.serve, tools.sign; sys.exit('model_signing' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_a_command_starts_without_torch(module: str) -> None:
    program = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


def test_every_recipe_has_a_folder_in_the_repository_and_every_folder_a_recipe() -> None:
    recipes = {path.stem for path in sources("tools/recipes")} - {"__init__"}
    assert recipes == set(model_names())


def test_only_the_model_repository_and_its_recipes_name_a_model_in_code() -> None:
    named = {
        path.relative_to(ROOT)
        for room in ("tools", "loadtest")
        for path in sources(room)
        if path.parent.name != "recipes"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in model_names()
    }
    assert not named
