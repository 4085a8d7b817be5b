"""README.md, CONTRIBUTING.md and docs/*.md as tests read them: blocks of code, commands, links and named files.

Blocks marked `bash` and `python` are executed. Blocks marked `console` need a free standard port, a GPU, Docker or many
minutes: their commands are only parsed, so that no page names an option which does not exist.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tools.__main__ import COMMANDS as INSTALLED
from tools.repository import ROOT

README = ROOT / "README.md"
MAKEFILE = (ROOT / "Makefile").read_text()
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMANDS = {command.name: command.module for command in INSTALLED}
# What ends a command of a line of shell.
SEPARATORS = {"|", ">", "&&", ";"}


@dataclass(frozen=True)
class Command:
    """A command line of ours: a module of this repository or Locust, and its arguments."""

    program: tuple[str, ...]
    arguments: tuple[str, ...]

    @property
    def options(self) -> list[str]:
        return [argument.split("=")[0] for argument in self.arguments if argument.startswith("--")]

    def __str__(self) -> str:
        return shlex.join((*self.program, *self.arguments))


@dataclass(frozen=True)
class Page:
    path: Path

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def text(self) -> str:
        return self.path.read_text()

    @property
    def prose(self) -> str:
        """The text without its blocks of code."""
        return BLOCK.sub("", self.text)

    def blocks(self, *languages: str) -> list[str]:
        return [code for language, code in BLOCK.findall(self.text) if language in languages]

    def commands(self) -> list[Command]:
        """The commands of all `bash` and `console` blocks that are ours."""
        lines = "".join(self.blocks("bash", "console")).replace("\\\n", " ").splitlines()
        return [command for line in lines for command in commands_of(shlex.split(line, comments=True))]

    def anchors(self) -> set[str]:
        return {anchor(heading) for heading in re.findall(r"^#+ (.*)$", self.prose, re.MULTILINE)}


def pages() -> list[Page]:
    return [Page(README), Page(ROOT / "CONTRIBUTING.md"), *map(Page, sorted((ROOT / "docs").glob("*.md")))]


def anchor(heading: str) -> str:
    """The name that GitHub gives a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def commands_of(words: Sequence[str]) -> Iterator[Command]:
    """The commands in the words of one line, also those that are arguments of others."""
    for place, word in enumerate(words):
        rest = words[place + 1 :]
        if " " in word and "python -m" in word:
            yield from commands_of(shlex.split(word))
        elif word == "python" and rest[:1] == ["-m"] and is_ours(rest[1]):
            yield Command(("python", "-m", rest[1]), until_separator(rest[2:]))
        elif word == "triton-repo" and rest:
            module = COMMANDS.get(rest[0])
            yield Command(("python", "-m", module or "tools"), until_separator(rest[1:] if module else rest))
        elif word == "locust" and words[place - 1] != "--profile" and rest[:1] == ["-f"]:
            yield Command(("locust", "-f", rest[1]), until_separator(rest[2:]))
        elif word == "pytest" and rest[:2] == ["-p", "tools.testing.plugin"]:
            yield Command(("pytest", *rest[:2]), until_separator(rest[2:]))
        elif word == "make" and rest:
            yield from made(rest[0], rest[1:])


def until_separator(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(words[: next((place for place, word in enumerate(words) if word in SEPARATORS), len(words))])


def made(target: str, words: Sequence[str]) -> Iterator[Command]:
    """The command behind a target of the Makefile, with the ARGS that it is given."""
    arguments = [word.removeprefix("ARGS=") for word in words if word.startswith("ARGS=")]
    module = re.search(rf"^{target}:.*\n(?:\t.*\n)*?\t.*-m ([\w.]+)[^-\n]*\$\(ARGS\)", MAKEFILE, re.MULTILINE)
    if arguments and module and is_ours(module[1]):
        yield Command(("python", "-m", module[1]), tuple(shlex.split(arguments[0])))


@cache
def is_ours(module: str) -> bool:
    """Whether a module belongs to this repository; it need not exist."""
    return (ROOT / module.split(".")[0]).is_dir()
