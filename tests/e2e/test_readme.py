"""The README is right: its commands run, its code runs, its tree and its names are those of the repository.

Blocks marked `bash` and `python` are executed here against the session's server. Blocks marked `console` need a free
standard port, a GPU, Docker or many minutes; what they name must exist all the same.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools import recipes
from tools.repository import ROOT, model_names
from tools.serve.tritonserver import Server

README = (ROOT / "README.md").read_text()
# The two commands of the first block are `make demo`, which has a test of its own, and the run that we are in.
FIRST, *BASH = re.findall(r"^```bash\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
PYTHON = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
MAKEFILE = (ROOT / "Makefile").read_text()


def at(server: Server, text: str) -> str:
    """The text with the addresses of the session's server in place of the usual ones."""
    return text.replace("127.0.0.1:8000", server.http).replace("127.0.0.1:8001", server.grpc)


def run(command: list[str], server: Server) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    addresses = {"TRITON_HTTP_URL": server.http, "TRITON_GRPC_URL": server.grpc}
    env = {**os.environ, **addresses, "PATH": path, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, f"{command}:\n{result.stdout[-2000:]}{result.stderr[-2000:]}"
    return result.stdout


@pytest.mark.parametrize("block", BASH)
def test_a_block_of_commands_runs(block: str, server: Server) -> None:
    assert run(["bash", "-euo", "pipefail", "-c", at(server, block)], server)


@pytest.mark.parametrize("block", PYTHON)
def test_a_block_of_python_runs(block: str, server: Server) -> None:
    assert run([sys.executable, "-W", "error", "-c", at(server, block)], server)


def test_the_first_screen_names_the_two_commands() -> None:
    assert [line.split("#")[0].strip() for line in FIRST.splitlines()] == ["make demo", "make test"]


def test_every_make_target_that_is_named_exists() -> None:
    named = set(re.findall(r"make ([a-z][a-z-]+)", README))
    assert named and named <= set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


def test_every_module_that_is_named_exists() -> None:
    named = set(re.findall(r"python -m ([a-z_.]+)", README)) - {"pip"}
    assert named
    places = {name: ROOT / name.replace(".", "/") for name in named}
    missing = [name for name, place in places.items() if not place.with_suffix(".py").is_file()]
    assert [name for name in missing if not (places[name] / "__main__.py").is_file()] == []


def test_every_room_of_the_tree_exists_and_every_room_is_in_the_tree() -> None:
    tree = re.search(r"^```\n(model_repository/.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert tree
    rooms = set(re.findall(r"^([a-z_]+)/", tree[1], re.MULTILINE))
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    present = {line.split("/")[0] for line in tracked if "/" in line and not line.startswith(".")}
    assert rooms == (present or rooms)
    assert all((ROOT / room).is_dir() for room in rooms)


def test_every_model_is_in_a_table() -> None:
    first_cells = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", README, re.MULTILINE)
    # Those that somebody brought along are described where they come from.
    own = {name for name in model_names() if not isinstance(recipes.load(name), recipes.Imported)}
    assert {name for cell in first_cells for name in re.findall(r"\w+", cell)} >= own


def test_every_link_within_the_page_has_a_heading() -> None:
    anchors = {line.lower().replace(" ", "-") for line in re.findall(r"^#+ (.*)$", README, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([a-z-]+)\)", README)) <= anchors
