"""What `tools.check` does: which models are checked for which servers, and how the findings are shown."""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from clients.command import print_json, say, text_table
from tools.check import fixes, report, signatures
from tools.check.finding import Finding, Fix
from tools.check.page import page
from tools.check.rehearsal import rehearse
from tools.check.releases import EMBEDDED, NEWEST, parse_release, pinned
from tools.check.rules import RULES, SUBJECTS, Scope, check, check_deep, check_traffic
from tools.check.upgrade import Difference, by_change, differences
from tools.repository import RECIPES, REPOSITORY, RepositoryError, model_names

OfModel = TypeVar("OfModel", Finding, Difference)


def inspect(arguments: argparse.Namespace) -> int:
    """Check what the options of `tools.check` name, and print the findings; returns the exit code."""
    if arguments.rules:
        print(page(SUBJECTS), end="")
        return 0
    began, base, findings, count = time.perf_counter(), Path.cwd(), list[Finding](), 0
    for repository, models in _chosen_models(arguments).items():
        count += len(_model_folders(repository, models))
        scope = _scope(arguments, repository)
        if arguments.upgrade:
            return _show_upgrade(repository, models, scope, *arguments.upgrade)
        if arguments.fix:
            _fix(repository, models, scope)
        findings += _chosen(_find(arguments, repository, scope), models)
    summary = report.summary(findings, count, time.perf_counter() - began)
    if arguments.sarif:
        print(json.dumps(report.as_sarif(findings, RULES, base), indent=1))
    elif arguments.json:
        print(json.dumps({**summary, "findings": report.as_json(findings, base)}, indent=1))
    else:
        print(*report.as_text(findings, base), sep="\n", end="\n" if findings else "")
        print_json(summary)
    failing = ("error", "warning") if arguments.strict else ("error",)
    return int(any(finding.severity in failing for finding in findings))


def _chosen_models(arguments: argparse.Namespace) -> dict[Path, tuple[str, ...]]:
    """The models to report on by repository, none for all: of a file, that which the file belongs to."""
    chosen: dict[Path, tuple[str, ...]] = {}
    for path in arguments.paths or [REPOSITORY]:
        if not path.is_file():
            chosen[path.resolve()] = tuple(arguments.model)
        elif folder := next((above for above in path.absolute().parents if (above / "config.pbtxt").is_file()), None):
            chosen[folder.parent] = tuple(dict.fromkeys((*chosen.get(folder.parent, ()), folder.name)))
    return chosen


def _scope(arguments: argparse.Namespace, repository: Path) -> Scope:
    backends = frozenset(arguments.backends) if arguments.backends else None
    unbuilt = frozenset(model_names(repository)) if arguments.unbuilt else _unbuilt(repository)
    releases = (_release(arguments.triton),) if arguments.triton else (EMBEDDED, pinned())
    return Scope(arguments.hardware, backends, unbuilt, auto_complete=arguments.auto_complete, releases=releases)


def _release(text: str) -> str:
    release = parse_release(text)
    if release > NEWEST:
        say(f"{release} is later than {NEWEST}, the newest release that is known here, and judged by what that has")
    return release


def _unbuilt(repository: Path) -> frozenset[str]:
    """Models that `python -m tools.export` builds: one without a version is not built yet, which is no error."""
    if repository != REPOSITORY:
        return frozenset()
    return frozenset(path.stem for path in RECIPES.glob("*.py"))


def _model_folders(repository: Path, models: Sequence[str]) -> list[str]:
    """The folders to check.

    Raises:
        RepositoryError: there is no repository, it is empty, or it lacks one of the models.
    """
    if not repository.is_dir():
        what = "is not a folder" if repository.exists() else "does not exist"
        raise RepositoryError(f"{repository} {what}; give the path of a model repository")
    folders = sorted(path.name for path in repository.iterdir() if path.is_dir())
    if not folders:
        raise RepositoryError(f"{repository} contains no model; a model is a folder with a config.pbtxt")
    if unknown := sorted(set(models) - set(folders)):
        raise RepositoryError(f"no model {', '.join(unknown)} in {repository}; there are {', '.join(folders)}")
    return list(models or folders)


def _find(arguments: argparse.Namespace, repository: Path, scope: Scope) -> list[Finding]:
    findings = check(repository, scope)
    if arguments.deep:
        broken = {finding.model for finding in findings if finding.severity == "error"}
        findings += check_deep(repository, broken)
    if arguments.url:
        findings += check_traffic(repository, arguments.url)
    if arguments.public_key:
        findings += signatures.check(repository, arguments.public_key)
    return findings


def _chosen(found: list[OfModel], models: Sequence[str]) -> list[OfModel]:
    return [one for one in found if not models or one.model in models]


def _fix(repository: Path, models: Sequence[str], scope: Scope) -> None:
    """Apply all fixes, unless a model that loads would not load with them."""
    rehearse(repository, lambda place: list(_fixes(place, models, scope)))
    for fix in _fixes(repository, models, scope):
        place = f"{report.shown(fix.place.file, Path.cwd())}:{fix.place.line}"
        say(f"fixed {place}: {fix.old} → {fix.new}")


def _fixes(repository: Path, models: Sequence[str], scope: Scope) -> Iterator[Fix]:
    """Apply fixes until there are none left; one may reveal another."""
    while applied := fixes.apply(_chosen(check(repository, scope), models)):
        yield from applied


def _show_upgrade(repository: Path, models: Sequence[str], scope: Scope, old: str, new: str) -> int:
    """Print what differs between two releases; 1 if the new one refuses something."""
    found = _chosen(differences(repository, _release(old), _release(new), scope), models)
    if found:
        rows = [[since, kind, ", ".join(names), what] for (since, kind, what), names in by_change(found).items()]
        print(text_table([["since", "what", "models", "change"], *rows]))
    print_json({"from": old, "to": new, "differences": [asdict(difference) for difference in found]})
    return int(any(difference.kind == "refused" for difference in found))
