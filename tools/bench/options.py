"""The options that benchmarks share."""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

from clients.command import positive, positive_float
from tools.repository import REPOSITORY
from tools.serve.hardware import HARDWARE

DEFAULT = "(default: %(default)s)"
Options = TypeVar("Options", bound="BenchOptions")


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What is measured, and how long.

    Attributes:
        models: their names; empty for all that the benchmark is about.
        concurrency: requests in flight.
        rounds: through everything; figures are medians over them.
        seconds: of one measurement or window.
        hardware: as for `tools.serve`.
        repository: the models' folder.
    """

    models: list[str]
    concurrency: list[int]
    rounds: int = 1
    seconds: float
    hardware: str
    repository: Path


def add_bench_arguments(
    parser: argparse.ArgumentParser, models: str, concurrency: list[int], window: str, seconds: float, rounds: int = 0
) -> None:
    """Add the options of `BenchOptions`.

    Args:
        parser: of the benchmark.
        models: which models are the default.
        concurrency: default levels.
        window: what `seconds` is the length of.
        seconds: default length.
        rounds: default number; 0 for a benchmark without rounds, which does not offer the option.
    """
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"(default: {models})")
    levels = f"requests in flight (default: {' '.join(map(str, concurrency))})"
    parser.add_argument("--concurrency", nargs="+", type=positive, default=concurrency, metavar="N", help=levels)
    if rounds:
        parser.add_argument("--rounds", type=positive, default=rounds, help=f"through everything {DEFAULT}")
    parser.add_argument("--seconds", type=positive_float, default=seconds, help=f"of {window} {DEFAULT}")
    parser.add_argument("--hardware", choices=HARDWARE, default="auto", help=f"as for tools.serve {DEFAULT}")
    parser.add_argument("--repository", type=Path, default=REPOSITORY, help=DEFAULT)


def read_options(kind: type[Options], arguments: argparse.Namespace) -> Options:
    """Read the options of a benchmark into its dataclass, whose fields have the names of the options."""
    offered = [field.name for field in fields(kind) if field.name in arguments]
    return kind(**{name: getattr(arguments, name) for name in offered})


TRAINED = "all that `make build` trains"


def trained_models() -> list[str]:
    """The trained models that `make build` makes."""
    from tools import recipes
    from tools.recipes import Recipe

    every = {name: recipes.load(name) for name in recipes.names()}
    return [name for name, recipe in every.items() if isinstance(recipe, Recipe) and recipe.default]
