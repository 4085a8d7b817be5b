"""Check a Triton model repository without a server: `python -m tools.check`.

Reads every config.pbtxt (and every variant in configs/) as Triton does, and reports what Triton or its pytorch backend
would refuse to load, and what loads but causes trouble later: where it is, what was expected, what was found, and what
to do. Unless --triton says otherwise, that is for the embedded server (2.51) and the release in docker-compose.yml.

    python -m tools.check                                  # this repository
    python -m tools.check /srv/models --hardware cpu       # another one, for a server without a GPU
    python -m tools.check models/digits/config.pbtxt       # only the models that these files belong to
    python -m tools.check --fix --deep                     # fix typos, and call TorchScript at several batch sizes
    python -m tools.check --public-key keys/public.pem     # also verify the signature of every version
    python -m tools.check --triton 26.09                   # for one release alone; a server's version will do (2.73)
    python -m tools.check --upgrade 24.10 26.09            # what another release changes for this repository
    python -m tools.check --sarif > findings.sarif         # for code review
    python -m tools.check --rules                          # all rules, as the page docs/check-rules.md

Exit code: 0 without errors, 1 with errors (--strict: or warnings), 2 if the check could not be run.
"""

import argparse
import sys
from pathlib import Path

from clients.command import command, command_parser
from tools.repository import REPOSITORY
from tools.serve.hardware import HARDWARE


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("tools.check", __doc__)
    add = parser.add_argument
    text = f"a repository, or files: then only the models that they belong to (default: {REPOSITORY})"
    add("paths", nargs="*", type=Path, metavar="PATH", help=text)
    add("--model", action="append", default=[], metavar="NAME", help="report on this model only; may be repeated")
    text = "cpu: also report what a server without a GPU refuses; auto: what any server does"
    add("--hardware", choices=HARDWARE, default="auto", help=text)
    text = "24.10 or later, or a server's version (default: 2.51 and docker-compose's)"
    add("--triton", metavar="RELEASE", help=text)
    add("--backends", nargs="+", metavar="NAME", help="the server's backends; any other is an error")
    text = "as a server with this flag: backends do not complete configs"
    add("--disable-auto-complete-config", dest="auto_complete", action="store_false", help=text)
    add("--unbuilt", action="store_true", help="versions are made elsewhere: a model without one is no error")
    add("--deep", action="store_true", help="also call TorchScript with torch, at several batch sizes")
    add("--url", metavar="HOST:PORT", help="also check the counters of a running server (HTTP)")
    text = "also verify the signature of each version (tools.sign)"
    add("--public-key", type=Path, metavar="PUBLIC.pem", help=text)
    add("--fix", action="store_true", help="apply mechanical fixes to the files, then check again")
    add("--strict", action="store_true", help="treat warnings as errors")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    form.add_argument("--sarif", action="store_true", help="print a SARIF 2.1.0 log instead of text")
    form.add_argument("--upgrade", nargs=2, metavar=("FROM", "TO"), help="print what differs between two releases")
    form.add_argument("--rules", action="store_true", help="print the page of all rules and check nothing")
    return parser


@command()
def main() -> int:
    """Check a repository and print the findings."""
    arguments = _parser().parse_args()
    from tools.check.inspection import inspect  # What it needs would make `--help` slow.

    return inspect(arguments)


if __name__ == "__main__":
    sys.exit(main())
