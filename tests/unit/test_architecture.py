"""The arrows between the rooms: what may import what, read from the source, not from what happens to be loaded."""

import ast
import graphlib
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tools.__main__ import COMMANDS
from tools.repository import ROOT, model_names

# Every room, the lowest first: a file imports its own room and rooms above it in this list, nothing else of ours.
ROOMS = (
    "clients",
    "clients/batch",
    "clients/openai",
    "clients/web",
    "clients/router",
    "loadtest",  # the ground: loads, payloads, records, objectives
    "loadtest/generator",
    "loadtest/analysis",
    "loadtest/report",
    "loadtest/swarm",
    "tools/backends",
    "tools",  # the ground: files that every room of tools may use
    "tools/compression",
    "tools/steps",
    "tools/recipes",
    "tools/language",
    "tools/datasets",
    "tools/train",
    "tools/sign",
    "tools/front",
    "tools/serve",
    "tools/capacity",
    "tools/export",
    "tools/check",
    "tools/new",
    "tools/verify",
    "tools/versions",
    "tools/tune",
    "tools/bench",
    "tools/compare",
    "tools/testing",
    "tools/doctor",
)
# Commands that stand on all rooms of their package.
ABOVE_THEIR_ROOMS = {
    "loadtest.run",
    "loadtest.llm",
    "loadtest.peak",
    "loadtest.diff",
    "loadtest.reports",
    "loadtest.locustfile",
    "tools.demo",
}
ABOVE_THEIR_ROOMS |= {"tools.export.__main__"}
# Only tools may import these.
HEAVY = {"torch", "torchvision", "sklearn"}
WITHOUT_TORCH = (
    "repository",
    "front",
    "serve",
    "new",
    "train",
    "export",
    "demo",
    "check",
    "sign",
    "verify",
    "versions",
    "compare",
    "tune",
    "doctor",
    "capacity",
)


@cache
def sources() -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    files = [path for room in ("clients", "loadtest", "tools") for path in sorted((ROOT / room).rglob("*.py"))]
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


@cache
def nodes(module: str) -> tuple[ast.AST, ...]:
    """Everything in a module's code."""
    return tuple(ast.walk(ast.parse(sources()[module].read_text())))


@cache
def imports(module: str) -> frozenset[str]:
    """What a module imports, anywhere in it: our modules by their dotted names, others as they stand."""
    named = set()
    for node in nodes(module):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = members & sources().keys()
            named |= modules if modules == members else modules | {node.module}
    return frozenset(named)


def floor(module: str) -> int:
    """The place in the list of the innermost room that a module lies in."""
    folder = sources()[module].parent.relative_to(ROOT)
    if module in ABOVE_THEIR_ROOMS:
        return max(place for place, room in enumerate(ROOMS) if Path(room).is_relative_to(folder.parts[0]))
    return next(ROOMS.index(str(place)) for place in (folder, *folder.parents) if str(place) in ROOMS)


def test_a_room_imports_only_rooms_below_it() -> None:
    upward = {
        f"{module} → {other}"
        for module in sources()
        for other in imports(module) & sources().keys()
        if floor(other) > floor(module)
    }
    assert not upward


def test_nobody_imports_a_command() -> None:
    commands = {module for module, file in sources().items() if "\nif __name__ ==" in file.read_text()}
    assert len(commands) > 12
    assert not {f"{module} → {other}" for module in sources() for other in imports(module) & commands}


def test_nobody_imports_a_command_of_the_tests() -> None:
    texts = {path: path.read_text() for path in (ROOT / "tests").rglob("*.py")}
    importing = re.compile(r"^\s*(?:from|import) tests\.[\w.]+\.__main__", re.MULTILINE)
    assert not [str(path) for path, text in texts.items() if importing.search(text)]


def test_the_installed_command_has_every_command_except_what_makes_and_measures_our_own_models() -> None:
    commands = {
        module.removesuffix(".__main__") for module, file in sources().items() if "\nif __name__ ==" in file.read_text()
    }
    own = {module for module in commands if module.startswith("tools.bench")} | {
        "tools",
        "tools.compare",
        "tools.demo",
        "tools.train",
    }
    assert {each.module for each in COMMANDS} == commands - own


def test_a_text_that_is_the_name_of_a_module_goes_through_what_knows_its_name_in_the_wheel() -> None:
    knowing = {"command_parser", "module_line", "as_typed", "Command", "get_tracer"}
    # What the wheel lacks may name modules as it likes.
    bundled = {
        module for module in sources() if not module.startswith(("tools.demo", "tools.bench", "clients.installation"))
    }
    named = set()
    for module in bundled:
        calls = [node for node in nodes(module) if isinstance(node, ast.Call)]
        known = {id(word) for call in calls if ast.unparse(call.func).split(".")[-1] in knowing for word in call.args}
        texts = [node for node in nodes(module) if isinstance(node, ast.Constant) and id(node) not in known]
        named |= {f"{module}: {text.value}" for text in texts if text.value in sources()}
    assert named == set()


def test_no_file_imports_itself_by_way_of_others() -> None:
    graph = {module: imports(module) & sources().keys() for module in sources()}
    tuple(graphlib.TopologicalSorter(graph).static_order())


def test_whoever_starts_a_process_sees_to_it_that_it_does_not_live_on_alone() -> None:
    starting = {module for module in sources() if imports(module) & {"subprocess", "multiprocessing"}}
    guarded = {"clients.lifetime", "tools.serve.caretaker", "tools.serve.tritonserver"}
    assert len(starting) > 8
    assert not {module for module in starting - guarded if not imports(module) & guarded}


def test_clients_and_load_tests_do_without_torch() -> None:
    users = {module for module in sources() for name in imports(module) if name.split(".")[0] in HEAVY}
    assert users and all(module.startswith("tools.") for module in users)


def test_what_verifies_signatures_is_loaded_only_where_there_is_a_key() -> None:
    rooms = "tools.check.__main__, tools.serve.__main__, tools.sign.__main__"
    program = f"import sys, {rooms}; sys.exit('model_signing' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_a_command_starts_without_torch(name: str) -> None:
    module = f"tools.{name}.__main__" if f"tools.{name}.__main__" in sources() else f"tools.{name}"
    program = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


def test_every_recipe_has_a_folder_in_the_repository_and_every_folder_a_recipe() -> None:
    recipes = {path.stem for path in (ROOT / "tools" / "recipes").glob("*.py")} - {"__init__"}
    assert recipes == set(model_names())


def test_only_the_model_repository_and_its_recipes_name_a_model_in_code() -> None:
    models = set(model_names())
    named = {
        module
        for module, path in sources().items()
        if not module.startswith("clients.") and path.parent.name != "recipes"
        for node in nodes(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in models
    }
    assert not named
