"""Check a Triton model repository without a server: `python -m tools.check`.

Reads every config.pbtxt (and every variant in configs/) as Triton 2.51 does, and reports what Triton or its pytorch
backend would refuse to load, and what loads but causes trouble later: where it is, what was expected, what was found,
and what to do.

    python -m tools.check                                  # this repository
    python -m tools.check /srv/models --hardware cpu       # another one, for a server without a GPU
    python -m tools.check --fix --deep                     # fix typos, and call TorchScript at several batch sizes
    python -m tools.check --public-key keys/public.pem     # also verify the signature of every version
    python -m tools.check --sarif > findings.sarif         # for code review
    python -m tools.check --rules                          # all rules, as the page docs/check-rules.md

Exit code: 0 without errors, 1 with errors (--strict: or warnings), 2 if the check could not be run.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clients.command import command, command_parser, print_json, say
from tools.check import fixes, report, signatures
from tools.check.finding import Finding
from tools.check.page import page
from tools.check.rules import RULES, SUBJECTS, Scope, check, check_deep, check_traffic
from tools.repository import REPOSITORY, ROOT, RepositoryError
from tools.serve.hardware import HARDWARE


@dataclass(frozen=True)
class _Options:
    """What to check.

    Attributes:
        models: report on these alone; empty for all.
        url: HOST:PORT of a running server whose counters are checked too.
        public_key: verify signatures with this key.
    """

    repository: Path
    models: tuple[str, ...]
    scope: Scope
    deep: bool
    url: str | None
    public_key: Path | None


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("tools.check", __doc__)
    parser.add_argument("repository", nargs="?", type=Path, default=REPOSITORY, help="(default: %(default)s)")
    parser.add_argument(
        "--model", action="append", default=[], metavar="NAME", help="report on this model only; may be repeated"
    )
    parser.add_argument(
        "--hardware",
        choices=HARDWARE,
        default="auto",
        help="cpu: also report what a server without a GPU refuses; auto: what any server does (default: %(default)s)",
    )
    parser.add_argument("--backends", nargs="+", metavar="NAME", help="the server's backends; any other is an error")
    parser.add_argument("--deep", action="store_true", help="also call TorchScript with torch, at several batch sizes")
    parser.add_argument("--url", metavar="HOST:PORT", help="also check the counters of a running server (HTTP)")
    parser.add_argument(
        "--public-key", type=Path, metavar="PUBLIC.pem", help="also verify the signature of each version (tools.sign)"
    )
    parser.add_argument("--fix", action="store_true", help="apply mechanical fixes to the files, then check again")
    parser.add_argument("--strict", action="store_true", help="treat warnings as errors")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    form.add_argument("--sarif", action="store_true", help="print a SARIF 2.1.0 log instead of text")
    form.add_argument("--rules", action="store_true", help="print the page of all rules and check nothing")
    return parser


def _options(arguments: argparse.Namespace) -> _Options:
    repository = arguments.repository.resolve()
    backends = frozenset(arguments.backends) if arguments.backends else None
    scope = Scope(arguments.hardware, backends, _unbuilt(repository))
    return _Options(repository, tuple(arguments.model), scope, arguments.deep, arguments.url, arguments.public_key)


def _unbuilt(repository: Path) -> frozenset[str]:
    """Models that `python -m tools.export` builds: one without a version is not built yet, which is no error."""
    if repository != REPOSITORY:
        return frozenset()
    return frozenset(path.stem for path in (ROOT / "tools" / "recipes").glob("*.py"))


def _model_folders(repository: Path, models: Sequence[str]) -> list[str]:
    """The folders to check.

    Raises:
        RepositoryError: there is no repository, it is empty, or it lacks one of the models.
    """
    if not repository.is_dir():
        raise RepositoryError(f"{repository} is not a folder; give the path of a model repository")
    folders = sorted(path.name for path in repository.iterdir() if path.is_dir())
    if not folders:
        raise RepositoryError(f"{repository} contains no model; a model is a folder with a config.pbtxt")
    if unknown := sorted(set(models) - set(folders)):
        raise RepositoryError(f"no model {', '.join(unknown)} in {repository}; there are {', '.join(folders)}")
    return list(models or folders)


def _find(options: _Options) -> list[Finding]:
    findings = check(options.repository, options.scope)
    if options.deep:
        broken = {finding.model for finding in findings if finding.severity == "error"}
        findings += check_deep(options.repository, broken)
    if options.url:
        findings += check_traffic(options.repository, options.url)
    if options.public_key:
        findings += signatures.check(options.repository, options.public_key)
    return [finding for finding in findings if not options.models or finding.model in options.models]


def _fix_and_find(options: _Options) -> list[Finding]:
    """Apply fixes until there are none left; one may reveal another."""
    while applied := fixes.apply(findings := _find(options)):
        for fix in applied:
            place = f"{report.shown(fix.place.file, Path.cwd())}:{fix.place.line}"
            say(f"fixed {place}: {fix.old} → {fix.new}")
    return findings


@command()
def main() -> int:
    """Check a repository and print the findings."""
    arguments = _parser().parse_args()
    if arguments.rules:
        print(page(SUBJECTS), end="")
        return 0
    began, base, options = time.perf_counter(), Path.cwd(), _options(arguments)
    folders = _model_folders(options.repository, options.models)
    findings = _fix_and_find(options) if arguments.fix else _find(options)
    summary = report.summary(findings, len(folders), time.perf_counter() - began)
    if arguments.sarif:
        print(json.dumps(report.as_sarif(findings, RULES, base), indent=1))
    elif arguments.json:
        print(json.dumps({**summary, "findings": report.as_json(findings, base)}, indent=1))
    else:
        print(*report.as_text(findings, base), sep="\n", end="\n" if findings else "")
        print_json(summary)
    failing = ("error", "warning") if arguments.strict else ("error",)
    return int(any(finding.severity in failing for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
