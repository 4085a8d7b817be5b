"""The options that benchmarks share."""

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from clients.command import duration, options_from, positive
from tools.repository import REPOSITORY
from tools.serve.hardware import HARDWARE

DEFAULT = "(default: %(default)s)"
Options = TypeVar("Options", bound="BenchOptions")


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What is measured, and how long; no models stands for all that the benchmark is about."""

    models: list[str]
    concurrency: list[int]
    rounds: int = 1
    seconds: float = 0.0
    hardware: str
    repository: Path


def add_bench_arguments(
    parser: argparse.ArgumentParser,
    kind: type[Options],
    models: str,
    concurrency: list[int],
    window: str = "",
    seconds: float = 0.0,
    rounds: int = 0,
) -> None:
    """Add the options of `BenchOptions` with their defaults, and `read`, which reads all options into a `kind`.

    A benchmark without rounds, or without a time for each measurement, does not offer that option.
    """
    parser.set_defaults(read=partial(options_from, kind=kind))
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"(default: {models})")
    levels = f"requests in flight (default: {' '.join(map(str, concurrency))})"
    parser.add_argument("--concurrency", nargs="+", type=positive, default=concurrency, metavar="N", help=levels)
    if rounds:
        parser.add_argument("--rounds", type=positive, default=rounds, help=f"through everything {DEFAULT}")
    if seconds:
        parser.add_argument("--seconds", type=duration, default=seconds, help=f"of {window} {DEFAULT}")
    parser.add_argument("--hardware", choices=HARDWARE, default="auto", help=f"as for tools.serve {DEFAULT}")
    parser.add_argument("--repository", type=Path, default=REPOSITORY, help=DEFAULT)


TRAINED = "all that `make build` trains"


def trained_models() -> list[str]:
    """The trained models that `make build` makes."""
    from tools import recipes
    from tools.recipes import Recipe

    every = {name: recipes.load(name) for name in recipes.names()}
    return [name for name, recipe in every.items() if isinstance(recipe, Recipe) and recipe.default]
