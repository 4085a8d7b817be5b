"""A change to a repository, tried on a copy first, so that the checker's verdict comes before the change takes effect.

Whatever writes into a repository that others serve from rehearses it: a change after which a model would not load that
loads now is refused, and nothing has happened. Models that do not load now may stay as they are.
"""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from tools.check.layout import NO_VERSION
from tools.check.rules import Scope, check_served
from tools.check.served import config_names, load
from tools.repository import HELD, RepositoryError

# Folders of a model in which files are written one by one; every other one moves or goes as a whole.
_WRITTEN = ("configs", HELD)


def rehearse(repository: Path, change: Callable[[Path], object]) -> None:
    """Apply a change to a copy of a repository, and judge the copy as a whole under every config name.

    The copy consists of links: `change` may write, rename and remove files, but not write into existing ones.

    Raises:
        RepositoryError: a model would not load that loads now, or that has no version now.
    """
    with TemporaryDirectory(prefix="rehearsal-") as place:
        copy = Path(place) / repository.name
        _link(repository, copy)
        change(copy)
        for name in ("", *config_names(copy)):
            before = _errors(repository, name)
            for model, errors in _errors(copy, name).items():
                # A model without a version does not keep a server from starting: tools.serve leaves it out.
                is_first = NO_VERSION.id in before.get(model, ()) and NO_VERSION.id not in errors
                if model not in before or is_first:
                    served = f" with --model-config-name={name}" if name else ""
                    raise RepositoryError(f"refused, as {model} would not load{served}: {next(iter(errors.values()))}")


def _errors(repository: Path, name: str) -> dict[str, dict[str, str]]:
    """The errors of each model by their rules, under a config name."""
    errors: dict[str, dict[str, str]] = {}
    for finding in check_served(load(repository, name), Scope()):
        if finding.severity == "error":
            errors.setdefault(finding.model, {})[finding.rule] = finding.message
    return errors


def _link(folder: Path, copy: Path, depth: int = 0) -> None:
    copy.mkdir()
    for path in folder.resolve().iterdir():
        if path.is_dir() and (depth == 0 or path.name in _WRITTEN):
            _link(path, copy / path.name, depth + 1)
        else:
            (copy / path.name).symlink_to(path)
