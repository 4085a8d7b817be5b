"""Find what is wrong with a Triton model repository, without a server: `python -m tools.check`.

Reads every config.pbtxt (and every variant in configs/) of any repository, as Triton 2.51 reads it, and says what
Triton would refuse, what the pytorch backend would, and what loads but is regretted; each with its place, what was
expected, what was found, and what to do.

    python -m tools.check                                  # this repository
    python -m tools.check /srv/models --hardware cpu       # another one, for a server without a GPU
    python -m tools.check --fix --deep                     # correct slips, and try TorchScript at several batch sizes
    python -m tools.check --public-key keys/public.pem     # also: every version is signed, and as it was signed
    python -m tools.check --sarif > findings.sarif         # for code review
    python -m tools.check --rules                          # all rules, as the page docs/check-rules.md

Exit code: 0 without errors, 1 with errors (--strict: or warnings), 2 when the check could not be run.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from clients.errors import ClientError
from tools.check import fixes, report, signatures
from tools.check.finding import Finding, Fix
from tools.check.page import page
from tools.check.rules import RULES, SUBJECTS, Scope, check, check_deep, check_traffic
from tools.repository import REPOSITORY, ROOT, RepositoryError
from tools.serve.hardware import HARDWARE


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="python -m tools.check", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("repository", nargs="?", type=Path, default=REPOSITORY, help="(default: %(default)s)")
    parser.add_argument(
        "--model", action="append", metavar="NAME", help="report on this model alone; may be given several times"
    )
    parser.add_argument(
        "--hardware",
        choices=HARDWARE,
        default="auto",
        help="cpu: also what a server without a GPU refuses; auto: what any server does (default: %(default)s)",
    )
    parser.add_argument(
        "--backends", nargs="+", metavar="NAME", help="all backends that the server has: any other one is an error"
    )
    parser.add_argument(
        "--deep", action="store_true", help="load TorchScript with torch, and call it at several batch sizes"
    )
    parser.add_argument("--url", metavar="HOST:PORT", help="ask the counters of a running server too (HTTP)")
    parser.add_argument(
        "--public-key", type=Path, metavar="PUBLIC.pem", help="also verify the signature of each version (tools.sign)"
    )
    parser.add_argument("--fix", action="store_true", help="correct in the files what is mechanical, then check again")
    parser.add_argument("--strict", action="store_true", help="let warnings count as errors do")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON document instead of text")
    form.add_argument("--sarif", action="store_true", help="a SARIF 2.1.0 log instead of text")
    form.add_argument("--rules", action="store_true", help="print the page about all rules, and check nothing")
    return parser


def main() -> int:
    """Entry point."""
    arguments = parser().parse_args()
    if arguments.rules:
        print(page(SUBJECTS), end="")
        return 0
    began = time.perf_counter()
    repository = arguments.repository.resolve()
    try:
        models = model_folders(repository, arguments.model)
        findings = find(arguments, repository)
        while arguments.fix and (fixed := fixes.apply(findings)):
            print(*(f"fixed {told(fix)}" for fix in fixed), sep="\n", file=sys.stderr)
            findings = find(arguments, repository)
    except (OSError, RepositoryError, ClientError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    show(arguments, findings, len(models), time.perf_counter() - began)
    counted = ("error", "warning") if arguments.strict else ("error",)
    return int(any(finding.severity in counted for finding in findings))


def model_folders(repository: Path, wanted: Sequence[str] | None) -> list[str]:
    """The folders that are to be models.

    Raises:
        RepositoryError: there is no repository, it is empty, or a model that is asked for is not in it.
    """
    if not repository.is_dir():
        raise RepositoryError(f"{repository} is no folder; give the model repository's path")
    folders = sorted(path.name for path in repository.iterdir() if path.is_dir())
    if not folders:
        raise RepositoryError(f"{repository} holds no model; a model is a folder with a config.pbtxt")
    unknown = sorted(set(wanted or ()) - set(folders))
    if unknown:
        raise RepositoryError(f"no model {', '.join(unknown)} in {repository}; there are {', '.join(folders)}")
    return list(wanted or folders)


def find(arguments: argparse.Namespace, repository: Path) -> list[Finding]:
    """All findings about the models that were asked for."""
    installed = frozenset(arguments.backends) if arguments.backends else None
    found = check(repository, Scope(arguments.hardware, installed, made_here(repository)))
    if arguments.deep:
        found += check_deep(repository, {finding.model for finding in found if finding.severity == "error"})
    if arguments.url:
        found += check_traffic(repository, arguments.url)
    if arguments.public_key:
        found += signatures.check(repository, arguments.public_key)
    return [finding for finding in found if not arguments.model or finding.model in arguments.model]


def told(fix: Fix) -> str:
    """A fix for people."""
    return f"{report.shown(fix.place.file, Path.cwd())}:{fix.place.line}: {fix.old} → {fix.new}"


def made_here(repository: Path) -> frozenset[str]:
    """Models that `python -m tools.export` makes: one without a version is not wrong, it is not made yet."""
    if repository != REPOSITORY:
        return frozenset()
    return frozenset(path.stem for path in (ROOT / "tools" / "recipes").glob("*.py"))


def show(arguments: argparse.Namespace, findings: Sequence[Finding], models: int, seconds: float) -> None:
    """Print the findings in the form that was asked for."""
    base, summary = Path.cwd(), report.summary(findings, models, seconds)
    if arguments.sarif:
        print(json.dumps(report.as_sarif(findings, RULES, base), indent=1))
    elif arguments.json:
        print(json.dumps({**summary, "findings": report.as_json(findings, base)}, indent=1))
    else:
        print("\n".join([*report.as_text(findings, base), json.dumps(summary, separators=(",", ":"))]))


if __name__ == "__main__":
    sys.exit(main())
