"""The documentation is right: commands, options, links, files, models and rooms that it names exist."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest

from tests.pages import MAKEFILE, README, Command, Page, pages
from tools import recipes
from tools.repository import ROOT, model_names

PAGES = pages()
LONGEST_README = 220
# Options of programs behind ours, which pass them on.
TRITON_OPTIONS = {"--model-control-mode", "--model-config-name"}
LOCUST = ("locust", "-f", "loadtest/locustfile.py")
LINK = re.compile(r"\]\(([^)\s]+)\)")
# A path from the repository's root: no placeholder, nothing that is built.
NAMED_FILE = re.compile(r"`((?:tools|clients|loadtest|tests|docs|deploy|model_repository)/[\w./-]*)`")

every_page = pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])


@cache
def help_of(command: Command) -> tuple[int, str]:
    """What a command answers to `--help` behind its arguments, which are parsed first; and its exit code."""
    program, *rest = command.program
    executable = sys.executable if program == "python" else str(Path(sys.executable).with_name(program))
    line = [executable, *rest, *command.arguments, "--help"]
    env = {**os.environ, "COLUMNS": "200"}
    result = subprocess.run(line, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    return result.returncode, result.stdout + result.stderr


def explained(command: Command) -> str:
    """The help of a command, and of Locust where it passes options on."""
    passed_on = command.program[-1] == "loadtest.swarm"
    return help_of(command)[1] + (help_of(Command(LOCUST, ()))[1] if passed_on else "")


def offers(text: str, option: str) -> bool:
    return re.search(rf"(?<![\w-]){option}(?![\w-])", text) is not None


@every_page
def test_every_command_on_a_page_parses_and_offers_its_options(page: Page) -> None:
    commands = page.commands()
    with ThreadPoolExecutor(2) as pool:
        tuple(pool.map(help_of, commands))
    refused = {str(command): help_of(command)[1][-500:] for command in commands if help_of(command)[0]}
    unknown = {
        f"{option} of {command}"
        for command in commands
        for option in set(command.options) - TRITON_OPTIONS
        if not offers(explained(command), option)
    }
    assert (refused, unknown) == ({}, set())


@every_page
def test_every_option_in_the_prose_of_a_page_exists(page: Page) -> None:
    named = {
        option for code in re.findall(r"`([^`\n]+)`", page.prose) for option in re.findall(r"(?<!\S)--[a-z-]+", code)
    }
    helps = [explained(command) for each in PAGES for command in each.commands()]
    assert {option for option in named - TRITON_OPTIONS if not any(offers(text, option) for text in helps)} == set()


@every_page
def test_every_module_and_make_target_on_a_page_exists(page: Page) -> None:
    modules = set(re.findall(r"python -m ([a-z_.]+\w)", page.text)) - {"pip"}
    places = {module: ROOT / module.replace(".", "/") for module in modules}
    missing = [name for name, place in places.items() if not place.with_suffix(".py").is_file()]
    assert [name for name in missing if not (places[name] / "__main__.py").is_file()] == []
    targets = set(re.findall(r"(?:^|`)make ([a-z][a-z-]+)", page.text, re.MULTILINE))
    assert targets <= set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


@every_page
def test_every_link_on_a_page_leads_somewhere(page: Page) -> None:
    for link in LINK.findall(page.prose):
        if not link.startswith("https://"):
            path, _, anchor = link.partition("#")
            target = Page((page.path.parent / path).resolve() if path else page.path)
            assert target.path.is_file(), link
            assert not anchor or anchor in target.anchors(), link


@every_page
def test_every_file_that_a_page_names_exists(page: Page) -> None:
    assert [name for name in NAMED_FILE.findall(page.prose) if not (ROOT / name).exists()] == []


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= LONGEST_README
    linked = {link.partition("#")[0] for link in LINK.findall(text)}
    assert {page.name for page in PAGES} - {"README.md"} <= linked


def test_the_first_command_of_the_readme_is_the_demo() -> None:
    first, *_ = Page(README).blocks("bash", "console")
    assert first == "make demo\n"


def test_every_room_of_the_tree_exists_and_every_room_is_in_the_tree() -> None:
    (tree,) = (block for block in Page(README).blocks("") if block.startswith("model_repository/"))
    rooms = set(re.findall(r"^([a-z_]+)/", tree, re.MULTILINE))
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    present = {line.split("/")[0] for line in tracked if "/" in line and not line.startswith(".")}
    assert rooms == (present or rooms)
    assert all((ROOT / room).is_dir() for room in rooms)


def test_every_model_is_in_a_table() -> None:
    cells = [cell for page in PAGES for cell in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", page.text, re.MULTILINE)]
    # Those that somebody brought along are described where they come from.
    own = {name for name in model_names() if not isinstance(recipes.load(name), recipes.Imported)}
    assert {name for cell in cells for name in re.findall(r"\w+", cell)} >= own
