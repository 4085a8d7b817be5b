"""The creation of a model: planned, written, exported and called in a staged repository, then moved into place."""

import keyword
import os
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clients.command import say
from clients.contract import TensorSpec
from clients.output import write_atomically
from tools.check.rehearsal import rehearse
from tools.new.options import OptionError, Options
from tools.recipes import Imported
from tools.repository import RepositoryError

if TYPE_CHECKING:
    from tools.export.publication import Evidence
    from tools.new.scaffold import Design


@dataclass(frozen=True)
class NewModel:
    """A model that was created."""

    options: Options
    design: "Design"
    evidence: "Evidence"
    served_difference: float  # The largest absolute one between the server's answer and the network's.
    notes: tuple[str, ...]  # What the model's owner should know.
    seconds: float

    @property
    def folder(self) -> Path:
        """The model's folder in the repository."""
        return self.options.repository / self.options.name

    def document(self) -> dict[str, Any]:
        """Return the JSON document."""

        def tensors(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
            return [{"name": spec.name, "datatype": spec.datatype, "dims": spec.dims} for spec in specs]

        recipe = self.options.recipe_path
        return {
            "model": self.options.name,
            "folder": str(self.folder),
            "recipe": recipe and str(recipe),
            "method": self.evidence.method,
            "max_batch_size": self.design.max_batch_size,
            "inputs": tensors(self.design.inputs),
            "outputs": tensors(self.design.outputs),
            "max_abs_difference": self.evidence.max_abs_difference,
            "served_max_abs_difference": self.served_difference,
            "notes": self.notes,
            "seconds": self.seconds,
        }


def create(options: Options, recipe: Imported) -> NewModel:
    """Create a model: plan it, write and prove its files, call it on the real server, then publish it.

    Raises:
        OptionError, RecipeError, RepositoryError, ProofError: nothing was published.
    """
    began, name = time.monotonic(), options.name
    _check_places(options)
    say(f"{name}: loading and trying the network")
    from tools.export.agreement import ProofError
    from tools.new import first_call
    from tools.new.plan import check, conversion_notes, make_plan, publish, write_files

    try:
        plan = make_plan(options, recipe)
        _say_notes(plan.notes)
        with _staging(options.repository) as staged:
            write_files(plan, staged)
            say(f"{name}: exporting and proving")
            evidence = publish(plan, staged).evidence
            notes = (*plan.notes, *conversion_notes(evidence))
            _say_notes((*conversion_notes(evidence), *check(staged)))
            say(f"{name}: loading it into the embedded server and calling it")
            difference = first_call.serve_and_call(plan, staged, options.hardware, options.ready_timeout)
            rehearse(options.repository, lambda place: (place / name).symlink_to(staged / name))
            _move_into_place(staged / name, options, plan.recipe_text)
    except (ProofError, OptionError) as error:
        raise type(error)(f"{name}: {error}") from error
    return NewModel(options, plan.design, evidence, difference, notes, round(time.monotonic() - began, 1))


def _say_notes(notes: Sequence[str]) -> None:
    for note in notes:
        say(f"note: {note}")


def _check_places(options: Options) -> None:
    name, recipe = options.name, options.recipe_path
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or keyword.iskeyword(name):
        raise OptionError(f"'{name}' cannot name a model and its recipe; use letters, digits and _, a letter first")
    for path in (options.repository / name, recipe):
        if path and path.exists():
            raise RepositoryError(f"{path} exists; choose another name, or remove both entries of {name} first")
    for folder in (options.repository, recipe.parent if recipe else None):
        if folder and not folder.exists():
            raise RepositoryError(f"{folder} does not exist; create it first: mkdir -p {shlex.quote(str(folder))}")
        if folder and not (folder.is_dir() and os.access(folder, os.W_OK)):
            raise RepositoryError(f"{folder} is not a folder that user {os.getuid()} can write to; choose another one")


@contextmanager
def _staging(repository: Path) -> Iterator[Path]:
    # On the file system of the real repository, but where a server that polls it does not look.
    place = repository.resolve()
    usable = os.access(place.parent, os.W_OK) and place.parent.stat().st_dev == place.stat().st_dev
    folder = Path(tempfile.mkdtemp(dir=place.parent if usable else place, prefix=".new-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _move_into_place(staged: Path, options: Options, recipe_text: str) -> None:
    # The proven folder in one rename, then its recipe: both or neither.
    target, recipe = options.repository / options.name, options.recipe_path
    _check_places(options)
    try:
        staged.rename(target)
    except OSError as error:
        raise RepositoryError(f"{target} cannot be created ({error.strerror}); nothing was published") from error
    try:
        if recipe:
            write_atomically(recipe, recipe_text)
    except OSError as error:
        target.rename(staged)
        raise RepositoryError(f"{recipe} cannot be written ({error.strerror}); nothing was published") from error
