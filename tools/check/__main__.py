"""Check a Triton model repository without a server: `python -m tools.check`.

Reads every config.pbtxt (and every variant in configs/) as Triton does, and reports what Triton or its pytorch backend
would refuse to load, and what loads but causes trouble later: where it is, what was expected, what was found, and what
to do. Unless --triton says otherwise, that is for the embedded server (2.51) and the release in docker-compose.yml.

    python -m tools.check                                  # this repository
    python -m tools.check /srv/models --hardware cpu       # another one, for a server without a GPU
    python -m tools.check --fix --deep                     # fix typos, and call TorchScript at several batch sizes
    python -m tools.check --public-key keys/public.pem     # also verify the signature of every version
    python -m tools.check --triton 26.09                   # for one release alone; a server's version will do (2.73)
    python -m tools.check --upgrade 24.10 26.09            # what another release changes for this repository
    python -m tools.check --sarif > findings.sarif         # for code review
    python -m tools.check --rules                          # all rules, as the page docs/check-rules.md

Exit code: 0 without errors, 1 with errors (--strict: or warnings), 2 if the check could not be run.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from clients.command import command, command_parser, print_json, say, text_table
from tools.check import fixes, report, signatures
from tools.check.finding import Finding, Fix
from tools.check.page import page
from tools.check.rehearsal import rehearse
from tools.check.releases import EMBEDDED, NEWEST, parse_release, pinned
from tools.check.rules import RULES, SUBJECTS, Scope, check, check_deep, check_traffic
from tools.check.upgrade import differences
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
    parser.add_argument(
        "--triton", metavar="RELEASE", help="24.10 or later, or a server's version (default: 2.51 and docker-compose's)"
    )
    parser.add_argument("--backends", nargs="+", metavar="NAME", help="the server's backends; any other is an error")
    parser.add_argument(
        "--disable-auto-complete-config",
        dest="auto_complete",
        action="store_false",
        help="as a server with this flag: backends do not complete configs",
    )
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
    form.add_argument("--upgrade", nargs=2, metavar=("FROM", "TO"), help="print what differs between two releases")
    form.add_argument("--rules", action="store_true", help="print the page of all rules and check nothing")
    return parser


def _options(arguments: argparse.Namespace) -> _Options:
    repository = arguments.repository.resolve()
    backends = frozenset(arguments.backends) if arguments.backends else None
    releases = (_release(arguments.triton),) if arguments.triton else (EMBEDDED, pinned())
    scope = Scope(
        arguments.hardware, backends, _unbuilt(repository), auto_complete=arguments.auto_complete, releases=releases
    )
    return _Options(repository, tuple(arguments.model), scope, arguments.deep, arguments.url, arguments.public_key)


def _release(text: str) -> str:
    release = parse_release(text)
    if release > NEWEST:
        say(f"{release} is later than {NEWEST}, the newest release that is known here, and judged by what that has")
    return release


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
    return _chosen(findings, options)


def _chosen(findings: list[Finding], options: _Options) -> list[Finding]:
    return [finding for finding in findings if not options.models or finding.model in options.models]


def _fix_and_find(options: _Options) -> list[Finding]:
    """Apply all fixes, unless a model that loads would not load with them."""
    rehearse(options.repository, lambda place: list(_fixes(place, options)))
    for fix in _fixes(options.repository, options):
        place = f"{report.shown(fix.place.file, Path.cwd())}:{fix.place.line}"
        say(f"fixed {place}: {fix.old} → {fix.new}")
    return _find(options)


def _fixes(repository: Path, options: _Options) -> Iterator[Fix]:
    """Apply fixes until there are none left; one may reveal another."""
    while applied := fixes.apply(_chosen(check(repository, options.scope), options)):
        yield from applied


def _show_upgrade(options: _Options, old: str, new: str) -> int:
    """Print what differs between two releases; 1 if the new one refuses something."""
    found = differences(options.repository, _release(old), _release(new), options.scope)
    found = [difference for difference in found if not options.models or difference.model in options.models]
    models: dict[tuple[str, str, str], list[str]] = {}
    for difference in found:
        models.setdefault((difference.since, difference.kind, difference.what), []).append(difference.model)
    if models:
        rows = [[since, kind, ", ".join(names), what] for (since, kind, what), names in models.items()]
        print(text_table([["since", "what", "models", "change"], *rows]))
    print_json({"from": old, "to": new, "differences": [asdict(difference) for difference in found]})
    return int(any(difference.kind == "refused" for difference in found))


@command()
def main() -> int:
    """Check a repository and print the findings."""
    arguments = _parser().parse_args()
    if arguments.rules:
        print(page(SUBJECTS), end="")
        return 0
    began, base, options = time.perf_counter(), Path.cwd(), _options(arguments)
    folders = _model_folders(options.repository, options.models)
    if arguments.upgrade:
        return _show_upgrade(options, *arguments.upgrade)
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
