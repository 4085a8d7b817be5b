"""The documentation is right: commands, options, links, files, models and rooms that it names exist."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from tests.pages import MAKEFILE, README, Command, Page, pages
from tools import recipes
from tools.repository import ROOT, model_names

PAGES = pages()
LONGEST_README = 220
# Options of programs behind ours, which pass them on.
TRITON_OPTIONS = {"--model-control-mode", "--model-config-name", "--allow-http", "--metrics-config", "--trace-config"}
DOCKER_OPTIONS = {"--profile"}
LOCUST = ("locust", "-f", "loadtest/locustfile.py")
PYTEST = ("pytest", "-p", "tools.testing.plugin")
SWARM = ("python", "-m", "loadtest.swarm")  # It passes options on to Locust.
LINK = re.compile(r"\]\(([^)\s]+)\)")
# A path from the repository's root: no placeholder, nothing that is built.
NAMED_FILE = re.compile(r"`((?:tools|clients|loadtest|tests|docs|deploy|model_repository)/[\w./-]*)`")

every_page = pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])


@dataclass(frozen=True)
class Answer:
    """What a command answers to `--help` behind its arguments, which are parsed first."""

    code: int
    text: str

    def offers(self, option: str) -> bool:
        """Whether an option is in the list of options; examples at the end of a help do not count."""
        return re.search(rf"^ +(?:-[^,\n]*, )?{option}(?![\w-])", self.text, re.MULTILINE) is not None


def run(line: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        line, cwd=ROOT, env={**os.environ, "COLUMNS": "200"}, capture_output=True, text=True, timeout=120
    )


def locust_help() -> Answer:
    """All options that Locust takes with our file, which its own `--help` does not read."""
    program = "import locust.argument_parser as it, loadtest.locustfile; it.get_parser().print_help()"
    result = run([sys.executable, "-c", program])
    return Answer(result.returncode, result.stdout + result.stderr)


@pytest.fixture(scope="module")
def answers() -> dict[Command, Answer]:
    """The answers of all commands on all pages."""
    commands = list({command for page in PAGES for command in page.commands()})
    programs: dict[str, list[tuple[str, ...]]] = {}
    for command in commands:
        if command.program not in (LOCUST, PYTEST):
            programs.setdefault(command.program[-1], []).append(command.arguments)
    result = run([sys.executable, "-m", "tests.unit.helps", json.dumps(programs)])
    assert result.returncode == 0, result.stderr
    helps = {module: iter(found) for module, found in json.loads(result.stdout.splitlines()[-1]).items()}
    locust, pytest_help = locust_help(), run([sys.executable, "-m", *PYTEST, "--help"])
    answers = {}
    for command in commands:
        if command.program == PYTEST:
            answers[command] = Answer(pytest_help.returncode, pytest_help.stdout)
            continue
        code, text = (0, "") if command.program == LOCUST else next(helps[command.program[-1]])
        own = locust.text if command.program in (LOCUST, SWARM) else ""
        answers[command] = Answer(code or locust.code, text + own)
    return answers


@every_page
def test_every_command_on_a_page_parses_and_offers_its_options(page: Page, answers: dict[Command, Answer]) -> None:
    refused = {str(command): answers[command].text[-500:] for command in page.commands() if answers[command].code}
    unknown = {
        f"{option} of {command}"
        for command in page.commands()
        for option in set(command.options) - TRITON_OPTIONS
        if not answers[command].offers(option)
    }
    assert (refused, unknown) == ({}, set())


@every_page
def test_every_option_in_the_prose_of_a_page_exists(page: Page, answers: dict[Command, Answer]) -> None:
    code = " ".join(re.findall(r"`([^`\n]+)`", page.prose))
    named = set(re.findall(r"(?<!\S)--[a-z-]+", code)) - TRITON_OPTIONS - DOCKER_OPTIONS
    assert {option for option in named if not any(answer.offers(option) for answer in answers.values())} == set()


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
