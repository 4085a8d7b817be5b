"""Run every command with odd options on odd machines: no traceback, an exit code that is documented, soon.

    python -m tests.commands --tries 1000 --seed 0
    python -m tests.commands --only 17 --seed 0      # one of them again, with all that it says

A thousand take a quarter of an hour on two processors. The exit code is 1 when one fails.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from clients.command import say
from tests.commands.running import run_tries
from tests.commands.world import make_world


def main() -> int:
    """Run the tries and print those that fail."""
    parser = argparse.ArgumentParser(prog="python -m tests.commands", description=__doc__.partition("\n")[0])
    parser.add_argument("--tries", type=int, default=1000, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--only", type=int, metavar="N", help="the N-th alone")
    parser.add_argument("--workers", type=int, default=2, help="(default: %(default)s)")
    arguments = parser.parse_args()
    numbers = range(arguments.tries) if arguments.only is None else [arguments.only]
    with tempfile.TemporaryDirectory(prefix="commands-") as folder:
        outcomes = []
        for outcome in run_tries(make_world(Path(folder)), numbers, arguments.seed, arguments.workers):
            outcomes.append(outcome)
            if outcome.flaw or arguments.only is not None:
                print(outcome, outcome.stderr[-3000:], sep="\n", end="\n\n", flush=True)
            if len(outcomes) % 50 == 0:
                say(f"{len(outcomes)} tries")
    failed = [outcome for outcome in outcomes if outcome.flaw]
    codes = {code: sum(outcome.code == code for outcome in outcomes) for code in sorted({o.code for o in outcomes})}
    print(f"{len(outcomes)} tries, exit codes {codes}, {len(failed)} failed")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
