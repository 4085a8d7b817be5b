"""One way to be a command: options, exit codes, progress, tables, and JSON on the last line.

Every `__main__` of this repository is a parser and a `main` with the decorator `command`:

    @command(interrupted="the same command resumes after the last finished epoch")
    def main() -> int: ...

Exit codes: 0 done, 1 the answer is no, 2 it could not be run, 130 interrupted. This module lives in `clients` because
that is the one room that every command may import.
"""

import argparse
import errno
import functools
import io
import json
import math
import os
import re
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from clients.errors import ToolError
from clients.installation import as_typed
from clients.interruption import interruptible
from clients.standard_streams import is_stdout_broken, open_closed_streams

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Item = TypeVar("Item")
Options = TypeVar("Options", bound="DataclassInstance")
_REMEDIES = {
    errno.EMFILE: "; raise the limit of open files (ulimit -n)",
    errno.ENOSPC: "; make room on the disk of what is written here, or of $TMPDIR",
    errno.EFBIG: "; raise the limit of a file's size (ulimit -f)",
    errno.EAGAIN: "; raise the limit of processes (ulimit -u)",
}


class _DocFormatter(argparse.HelpFormatter):
    """Wrap the prose of a docstring, and keep its indented examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        wrap = textwrap.TextWrapper(width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
        paragraphs = text.split("\n\n")
        return "\n\n".join(part if part.startswith(" ") else wrap.fill(" ".join(part.split())) for part in paragraphs)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        # An option's default is named, unless its help does that in other words.
        default, text = action.default, action.help or ""
        if action.nargs == 0 or default in (None, "", argparse.SUPPRESS, [], {}) or "(default" in text:
            return text
        values = default if isinstance(default, list | tuple) else [default]
        shown = " ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
        return f"{text} (default: {shown.replace('%', '%%')})"


class _Parser(argparse.ArgumentParser):
    """Answers a shell that asks for completions (argcomplete), which parses what was typed with this very parser."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **{"formatter_class": _DocFormatter, **options})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if args is None and "_ARGCOMPLETE" in os.environ:
            import argcomplete

            argcomplete.autocomplete(self)  # It ends the process.
        return super().parse_known_args(args, namespace)


def command_parser(module: str, doc: str | None, epilog: str = "", **options: Any) -> argparse.ArgumentParser:
    """Create the parser of a module's command, whose help is the module's docstring `doc`.

    Its first paragraph stands above the options, the rest with its examples below them, and `epilog` at the end.
    """
    description, _, rest = (doc or "").strip().partition("\n\n")
    return _Parser(
        prog=as_typed(module),
        description=description,
        epilog="\n\n".join(filter(None, (rest, epilog))),
        **options,
    )


def command(interrupted: str = "stopped") -> Callable[[Callable[[], int]], Callable[[], int]]:
    """Turn errors and interruptions of a `main` into one line on stderr and an exit code.

    `interrupted` says what Ctrl-C, SIGTERM or a closed terminal leaves behind, and how to continue.
    """

    def decorate(main: Callable[[], int]) -> Callable[[], int]:
        @functools.wraps(main)
        def run() -> int:
            open_closed_streams()
            if isinstance(sys.stdout, io.TextIOWrapper):
                # Whatever a file, a label or a model is called, it can be printed; in JSON, as an escape of its own.
                sys.stdout.reconfigure(errors="backslashreplace")
            try:
                with interruptible():
                    code = main()
                    sys.stdout.flush()
                    return code
            except KeyboardInterrupt:
                say(f"interrupted; {interrupted}")
                return 130
            except Exception as error:
                return _reported(error)

        return run

    return decorate


def _reported(error: Exception) -> int:
    """Say what went wrong; returns the exit code. A bug is raised again, for its traceback."""
    if isinstance(error, OSError) and is_stdout_broken():
        sys.stdout = None  # The reader is gone: nothing is left to flush.
        return 141  # as a shell reports a program that SIGPIPE ended
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        words = f"{place}{error.strerror or error}{_REMEDIES.get(error.errno or 0, '')}"
    elif isinstance(error, MemoryError):
        words = "out of memory; close other programs, or raise the limit (ulimit -v)"
    elif isinstance(error, ToolError) or _is_symlink_loop(error):
        words = str(error)
    else:
        raise error
    say(f"error: {words}")
    return error.exit_code if isinstance(error, ToolError) else ToolError.exit_code


def _is_symlink_loop(error: Exception) -> bool:
    """Whether it is what Path.resolve raises before Python 3.13."""
    return isinstance(error, RuntimeError) and str(error).startswith("Symlink loop")


def say(text: str) -> None:
    """Print progress, a notice or an error on stderr, if anybody can read it; stdout is for results."""
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def print_json(document: Any) -> None:
    """Print a document as one compact line, the last of stdout."""
    print(json.dumps(document, separators=(",", ":"), ensure_ascii=False), flush=True)


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Align a header and its rows for a terminal: the first column to the left, the others to the right."""
    from rich.console import Console
    from rich.table import Table

    header, *body = rows
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    for column, title in enumerate(header):
        grid.add_column(title, justify="right" if column else "left", no_wrap=True)
    for row in body:
        grid.add_row(*row)
    # Wider than any table: one that is piped into a file is never wrapped.
    console = Console(width=10_000, highlight=False, markup=False, emoji=False, no_color=True)
    with console.capture() as captured:
        console.print(grid)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def progress(items: Iterable[Item], title: str, total: int | None = None, hidden: bool = False) -> Iterator[Item]:
    """Iterate with a progress bar on stderr if that is a terminal; it disappears at the end."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(items, title, total, console=console, transient=True, disable=hidden or not console.is_terminal)


@contextmanager
def progress_counter(unit: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Show how many units of a total are done, and yield the function that adds to them.

    A terminal gets a bar that disappears at the end; a log file gets a line every ten seconds and one at the end.
    """
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    console, logged = Console(stderr=True), time.monotonic()
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(unit, total=total, completed=done)

        def advance(count: int) -> None:
            nonlocal done, logged
            done += count
            bar.update(task, advance=count)
            if not console.is_terminal and (done >= total or time.monotonic() - logged > 10):
                logged = time.monotonic()
                say(f"{done:,} of {total:,} {unit}")

        yield advance


def options_from(arguments: argparse.Namespace, kind: type[Options], **more: Any) -> Options:
    """Read a dataclass from the options with its fields' names; `more` has other fields, and the rest keep defaults."""
    names = {field.name for field in fields(kind)}
    offered = {name: value for name, value in vars(arguments).items() if name in names}
    return kind(**offered, **more)


def address(text: str) -> str:
    """An option's value: HOST:PORT."""
    from clients.connection import is_address

    if not is_address(text):
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, got '{text}'")
    return text


def positive(text: str) -> int:
    """An option's value: a whole number above 0."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got '{text}'")
    return int(text)


def seed(text: str) -> int:
    """An option's value: a whole number from 0 up to what every random generator takes."""
    if not (text.isascii() and text.isdigit() and int(text) < 2**32):
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to {2**32 - 1}, got '{text}'")
    return int(text)


def positive_float(text: str) -> float:
    """An option's value: a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got '{text}'")
    return value


def duration(text: str) -> float:
    """An option's value: seconds, from 90, 90s, 5m, 1h30m or 1m30s."""
    number = r"(\d+(?:\.\d+)?)"
    match = re.fullmatch(rf"{number}|(?:{number}h)?(?:{number}m)?(?:{number}s)?", text, re.ASCII)
    seconds = (
        sum(float(part or 0) * unit for part, unit in zip(match.groups(), (1, 3600, 60, 1), strict=True))
        if match
        else 0
    )
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"expected a time above 0 as 90, 90s, 5m or 1h30m, got '{text}'")
    return seconds
