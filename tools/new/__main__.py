"""Bring your own model: from a module, a TorchScript file or a torchvision model to a served folder, in one command.

The network is tried (does it take batches? what does it give?), config.pbtxt and the recipe are written, the
TorchScript file is proven, and the real server loads it and answers a call. Only then does anything appear in the
repository.

    python -m tools.new towers --module towers.py:Towers --example-inputs 'user:INT64[1],item:FP32[6]'
    python -m tools.new resnet --torchvision resnet50 --checkpoint resnet50.pth --labels imagenet.txt
    python -m tools.new scorer --torchscript scorer.pt --example-inputs 'FP32[12]' --max-batch-size 128
"""

import argparse
import json
import keyword
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clients.output import write_atomically
from tools.new.new_flags import NewError, parser, recipe_from
from tools.recipes import RecipeError
from tools.repository import REPOSITORY, ROOT, RepositoryError

if TYPE_CHECKING:
    from tools.new.designing import Plan

RECIPES = ROOT / "tools" / "recipes"
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def say(text: str) -> None:
    """Progress; stdout is left to the result."""
    print(text, file=sys.stderr, flush=True)


def recipe_path(arguments: argparse.Namespace) -> Path | None:
    """Where the recipe goes; None for a repository that is not this one's, unless --recipes says it."""
    if arguments.recipes:
        return Path(arguments.recipes) / f"{arguments.name}.py"
    return RECIPES / f"{arguments.name}.py" if arguments.repository.resolve() == REPOSITORY else None


def refuse_existing(arguments: argparse.Namespace) -> None:
    """Raise NewError for a name that cannot be, that is taken, or whose places cannot be written."""
    name, recipe = arguments.name, recipe_path(arguments)
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise NewError(f"'{name}' cannot name a model and its recipe; take letters, digits and _, a letter first")
    for path in (arguments.repository / name, recipe):
        if path and path.exists():
            raise NewError(f"{path} exists; choose another name, or remove both entries of {name} first")
    for folder in (arguments.repository, recipe.parent if recipe else None):
        if folder and not (folder.is_dir() and os.access(folder, os.W_OK)):
            raise NewError(f"{folder} is no folder that user {os.getuid()} may write to; create it first")


@contextmanager
def staging(repository: Path) -> Iterator[Path]:
    """A repository of one model, on the file system of the real one, where a server that polls that does not look."""
    place = repository.resolve()
    beside = place.parent
    usable = os.access(beside, os.W_OK) and beside.stat().st_dev == place.stat().st_dev
    folder = Path(tempfile.mkdtemp(dir=beside if usable else place, prefix=".new-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def settle(staged: Path, arguments: argparse.Namespace, text: str) -> None:
    """Move the proven folder into the repository in one rename, and write its recipe; both or neither.

    Raises:
        NewError: somebody else was faster, or the disk is full.
    """
    target, recipe = arguments.repository / arguments.name, recipe_path(arguments)
    refuse_existing(arguments)
    try:
        staged.rename(target)
    except OSError as error:
        raise NewError(f"{target} cannot be made ({error.strerror}); nothing was published") from error
    try:
        if recipe:
            write_atomically(recipe, text)
    except OSError as error:
        target.rename(staged)
        raise NewError(f"{recipe} cannot be written ({error.strerror}); nothing was published") from error


def make(arguments: argparse.Namespace) -> dict[str, Any]:
    """Try, write, prove, call and publish; what was made.

    Raises:
        NewError, RecipeError, RepositoryError: nothing was published.
    """
    began = time.monotonic()
    refuse_existing(arguments)
    recipe = recipe_from(arguments)
    say(f"{arguments.name}: reading and trying the network")
    from tools.new import designing

    try:
        plan = designing.plan(arguments, recipe)
        for note in plan.notes:
            say(f"note: {note}")
        with staging(arguments.repository) as folder:
            manifest, difference = prove(plan, folder, arguments)
            settle(folder / arguments.name, arguments, plan.recipe_text)
    except designing.REFUSALS as error:
        raise NewError(f"{arguments.name}: {error}") from error
    return result(arguments, plan, manifest, difference) | {"seconds": round(time.monotonic() - began, 1)}


def prove(plan: "Plan", folder: Path, arguments: argparse.Namespace) -> tuple[dict[str, Any], float]:
    """Write, export and call the model in a staged repository; its manifest, and how far the server's answer is off."""
    from tools.new import designing

    designing.write(plan, folder)
    say(f"{arguments.name}: exporting and proving")
    manifest = designing.publish(plan, folder)
    for note in conversion_notes(manifest):
        say(f"note: {note}")
    for finding in designing.check(plan, folder):
        say(f"note: {finding}")
    say(f"{arguments.name}: loading it into the embedded server and calling it")
    return manifest, designing.call_once(plan, folder, arguments)


def conversion_notes(manifest: dict[str, Any]) -> Iterator[str]:
    """What a person should know about how the file was made."""
    for method, reason in manifest["passed_over"].items():
        yield f"not {method}: {reason}"
    for place in manifest["fixed"]:
        yield f"tracing fixed what an example decided: {place}"


def result(arguments: argparse.Namespace, plan: "Plan", manifest: dict[str, Any], difference: float) -> dict[str, Any]:
    """What was made, for scripts."""
    recipe = recipe_path(arguments)
    return {
        "model": arguments.name,
        "folder": str(arguments.repository / arguments.name),
        "recipe": recipe and str(recipe),
        "method": manifest["method"],
        "max_batch_size": plan.design.max_batch_size,
        "inputs": [{"name": one.name, "datatype": one.datatype, "dims": one.dims} for one in plan.design.inputs],
        "outputs": [{"name": one.name, "datatype": one.datatype, "dims": one.dims} for one in plan.design.outputs],
        "max_abs_difference": manifest["max_abs_difference"],
        "served_max_abs_difference": difference,
        "notes": [*plan.notes, *conversion_notes(manifest)],
    }


def summary(made: dict[str, Any]) -> str:
    """What was made, for people."""
    listed = {
        role: ", ".join(f"{one['name']} {one['datatype']} {list(one['dims'])}" for one in made[role])
        for role in ("inputs", "outputs")
    }
    batches = f"batches of up to {made['max_batch_size']}" if made["max_batch_size"] else "without batches"
    lines = [
        f"{made['model']}: {made['method']}, proven, loaded and called in {made['seconds']} s, {batches}",
        f"  inputs   {listed['inputs']}",
        f"  outputs  {listed['outputs']}",
        f"  folder   {made['folder']}",
    ]
    if made["recipe"]:
        lines += [f"  recipe   {made['recipe']}", f"  again    python -m tools.export {made['model']}"]
    return "\n".join(lines)


def main() -> int:
    """Entry point."""
    arguments = parser(__doc__).parse_args()
    try:
        made = make(arguments)
    except (NewError, RecipeError, RepositoryError) as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("Interrupted; nothing was published")
        return 130
    if not arguments.json:
        print(summary(made))
    print(json.dumps(made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
