"""Work with any model repository of Triton Inference Server: check, serve, measure and tune it.

The commands work on ./model_repository unless they are given another one; `COMMAND --help` describes each.
"""

import argparse
import importlib
import os
import sys
from dataclasses import dataclass
from typing import Any

from clients.command import command, command_parser, say
from clients.installation import PACKAGE, as_typed, command_name, how_to_install

# How `argcomplete` tells a program that it is asked for completions, and after how many words its own begin.
_COMPLETING = "_ARGCOMPLETE"
# Packages that only some options of a command need, with the extra of the wheel that brings them.
_RARE = {"torch": "serve", "torchvision": "all", "model_signing": "sign", "cryptography": "sign", "pyarrow": "client"}


@dataclass(frozen=True)
class Command:
    """A module with a `main`, what it does in a few words, and what it needs.

    Attributes:
        extra: the extra of the wheel that brings what it imports.
        since: the first Python that it runs on.
        is_folder: whether it is a folder with a `__main__`.
    """

    module: str
    title: str
    extra: str = "serve"
    since: tuple[int, int] = (3, 11)
    is_folder: bool = True

    @property
    def name(self) -> str:
        """What it is called as a command of `triton-repo`."""
        return command_name(self.module)

    def run(self) -> int:
        """Import it and run it; it reads the command line."""
        main: Any = importlib.import_module(f"{PACKAGE}{self.module}" + ".__main__" * self.is_folder).main
        return int(main())


_OLD = (3, 10)
COMMANDS = (
    Command("tools.check", "find mistakes in a repository, without a server", "check", _OLD),
    Command("tools.new", "bring a PyTorch model into a repository, proven"),
    Command("tools.serve", "serve a repository with the real tritonserver, without Docker"),
    Command("tools.verify", "prove that a server answers as the network does"),
    Command("tools.tune", "find the best batching, instances and threads"),
    Command("tools.capacity", "say how many replicas a rate of requests needs"),
    Command("tools.versions", "promote, roll back, prune or roll out a version"),
    Command("tools.export", "export and publish a model again, by its recipe"),
    Command("tools.sign", "sign versions, so that every change is found", "sign"),
    Command("tools.front", "make keys, certificates and the configuration of a front door", "client"),
    Command("tools.doctor", "find out why a running server is slow or ill", "loadtest"),
    Command("clients.status", "show what a server is doing", "check", _OLD, is_folder=False),
    Command("clients.classify", "classify image files", "client", _OLD, is_folder=False),
    Command("clients.generate", "have a language model continue a text", "client", _OLD, is_folder=False),
    Command("clients.batch", "run a model on a large data set", "client"),
    Command("clients.router", "route traffic, try candidates, offer OpenAI's API", "client"),
    Command("loadtest.run", "measure latency under load", "loadtest", is_folder=False),
    Command("loadtest.peak", "find the highest rate within an objective", "loadtest", is_folder=False),
    Command("loadtest.llm", "measure a language model: first token, tokens per second", "loadtest", is_folder=False),
    Command("loadtest.swarm", "simulate users with Locust", "loadtest"),
    Command("loadtest.diff", "compare two load tests", "loadtest", is_folder=False),
    Command("loadtest.reports", "list all reports on one page", "loadtest", is_folder=False),
)


def _named(words: list[str]) -> Command | None:
    """The command that a command line names, if it is complete."""
    if _COMPLETING in os.environ:
        words = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])].split(" ")[1:-1]
    return next((known for known in COMMANDS if words[:1] == [known.name]), None)


def _run(chosen: Command) -> int:
    if sys.version_info < chosen.since:
        least, here = ".".join(map(str, chosen.since)), ".".join(map(str, sys.version_info[:2]))
        say(f"error: {chosen.name} needs Python {least} or later; this is {here}")
        return 2
    if _COMPLETING in os.environ:
        os.environ[_COMPLETING] = "2"
    sys.argv[:2] = [as_typed(chosen.module)]
    try:
        return chosen.run()
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if f"{package}." == PACKAGE:  # Ours is broken.
            raise
        remedy = how_to_install(_RARE.get(package, chosen.extra))
        say(f"error: {chosen.name} needs {package}, which is not installed; run {remedy}")
        return 2


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("triton-repo")
    except PackageNotFoundError:
        return "(a clone)"


def _parser() -> argparse.ArgumentParser:
    width = max(len(known.name) for known in COMMANDS)
    listed = "\n".join(f"    {known.name:{width}}  {known.title}" for known in COMMANDS)
    parser = command_parser("tools", f"{__doc__}\n\nCommands:\n\n{listed}")
    names = [known.name for known in COMMANDS]
    parser.add_argument("command", choices=names, metavar="COMMAND", nargs="?", help="one of those listed below")
    parser.add_argument("--version", action="version", version=f"triton-repo {_version()}")
    text = 'print what completes commands and options in a shell: eval "$(triton-repo --completion bash)"'
    parser.add_argument("--completion", choices=("bash", "zsh", "fish"), help=text)
    return parser


@command()
def _answer() -> int:
    """Answer a command line that names no command."""
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.completion:
        from argcomplete.shell_integration import shellcode

        print(shellcode(["triton-repo"], shell=arguments.completion))
    else:
        parser.print_help()
    return 0


def main() -> int:
    """Run the command that the command line names."""
    chosen = _named(sys.argv[1:])
    return _run(chosen) if chosen else _answer()


if __name__ == "__main__":
    sys.exit(main())
