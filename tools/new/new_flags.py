"""The flags of `tools.new`, and the recipe that they describe."""

import argparse
import json
from pathlib import Path
from typing import Any

from clients.errors import ToolError
from tools.recipes import Imported
from tools.repository import REPOSITORY, ROOT
from tools.serve.hardware import HARDWARE


class NewError(ToolError):
    """The command line cannot be followed; the message says what is wrong with it and the remedy."""


def parser(description: str | None = None) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.new",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=description,
    )
    parser.add_argument("name", metavar="NAME", help="of the new model: letters, digits and _")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--module", metavar="PATH.py:CLASS", help="a torch.nn.Module, or a function that returns one")
    source.add_argument("--torchscript", metavar="FILE", help="a TorchScript file")
    source.add_argument("--torchvision", metavar="MODEL", help="the name of one of torchvision's models")
    parser.add_argument(
        "--arguments", type=arguments_from, default={}, metavar="JSON", help="for CLASS or MODEL, by name"
    )
    parser.add_argument(
        "--checkpoint", metavar="FILE", help="the state dict (default: the weights that it begins with)"
    )
    parser.add_argument(
        "--weights",
        metavar="NAME",
        help="torchvision's, with labels, e.g. DEFAULT; downloaded unless --checkpoint has them",
    )
    parser.add_argument(
        "--example-inputs",
        metavar="INPUTS",
        help="types and shapes without the batch, e.g. 'user:INT64[1],item:FP32[6]'; -1 where sizes vary, [] for none",
    )
    parser.add_argument(
        "--max-batch-size", type=batch_size, metavar="N", help="0 for none (default: 64, or 8 where inputs are large)"
    )
    parser.add_argument("--labels", type=Path, metavar="FILE", help="names of the classes, one a line")
    parser.add_argument("--tolerance", type=float, help="of TorchScript against eager (default: 1e-4)")
    parser.add_argument("--repository", type=Path, default=REPOSITORY, help="(default: %(default)s)")
    parser.add_argument(
        "--recipes",
        type=Path,
        metavar="DIR",
        help="where the recipe goes (default: tools/recipes, for its repository alone)",
    )
    parser.add_argument("--hardware", choices=HARDWARE, default="auto", help="of the first call (default: %(default)s)")
    parser.add_argument("--ready-timeout", type=float, default=120, metavar="S", help="seconds to load (default: 120)")
    parser.add_argument("--json", action="store_true", help="nothing but the last line, which is JSON, on stdout")
    return parser


def arguments_from(text: str) -> dict[str, Any]:
    """Keyword arguments from JSON."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error} in {text}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f'expected a JSON object such as {{"classes": 10}}, got {text}')
    return value


def batch_size(text: str) -> int:
    """A whole number of at least 0."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got '{text}'")
    return int(text)


def recipe_from(arguments: argparse.Namespace) -> Imported:
    """The recipe that the command line describes; paths are kept relative where they lie in this repository.

    Raises:
        NewError: flags do not go together.
    """
    if arguments.weights and not arguments.torchvision:
        raise NewError("--weights are torchvision's; give a --checkpoint with --module")
    if arguments.torchscript and (arguments.checkpoint or arguments.arguments):
        raise NewError(
            "a --torchscript file has its weights and its arguments in it; leave --checkpoint, --arguments out"
        )
    file, separator, name = (arguments.module or "").rpartition(":")
    paths = [kept(text) for text in (file, arguments.torchscript, arguments.checkpoint)]
    return Imported(
        module=f"{paths[0]}:{name}" if separator else arguments.module,
        torchscript=paths[1],
        torchvision=arguments.torchvision,
        arguments=arguments.arguments,
        checkpoint=paths[2],
        weights=arguments.weights,
        # Only tools/ is in the container image that builds models, and in everybody's checkout.
        default=all(path.startswith("tools/") for path in paths if path),
        **({} if arguments.tolerance is None else {"tolerance": arguments.tolerance}),
    )


def kept(text: str | None) -> str | None:
    """A path as a recipe keeps it: relative to the root of this repository, or absolute where it lies elsewhere."""
    if not text:
        return None
    path = Path(text).expanduser().resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
