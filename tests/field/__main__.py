"""Networks as people bring them, each through `tools.new` in one command: served and equal to eager, or refused.

python -m venv .field && .field/bin/pip install --group dev --group field   # the libraries that the networks are from
.field/bin/python -m tests.field                    # a row for each network, and how many were served
.field/bin/python -m tests.field bert gpt2 --jobs 2
"""

import json
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tests.field.cases import HERE, Case, cases
from tools.repository import ROOT

TIMEOUT = 300.0


@dataclass(frozen=True)
class Outcome:
    """What one command did."""

    case: Case
    document: dict[str, Any] | None  # The command's last line; None if it refused the network.
    reason: str
    seconds: float

    def __str__(self) -> str:
        head = f"{self.case.family:28} {self.case.name:30} {self.seconds:6.1f} s  "
        if not self.document:
            return f"{head}refused: {self.reason}"
        batch, difference = self.document["max_batch_size"], self.document["served_max_abs_difference"]
        return f"{head}served, {self.document['method']}, batches of {batch}, {difference:.1e} from eager"


def bring(case: Case) -> Outcome:
    """Run `tools.new` for one network, on a repository of its own."""
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, "-m", "tools.new", "brought", "--json", "--repository", folder, *case.flags]
        began = time.monotonic()
        ran = subprocess.run(
            [*line, "--module", f"{HERE / case.source}"], cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT
        )
    seconds = time.monotonic() - began
    reason = ran.stderr.strip().rpartition("error: ")[2]
    return Outcome(case, json.loads(ran.stdout) if ran.returncode == 0 else None, reason, seconds)


def main() -> int:
    """Print a row for each network as it is done, then the totals."""
    parser = ArgumentParser("tests.field", description=__doc__)
    parser.add_argument("names", nargs="*", help="of networks or families (default: all)")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    chosen = [case for case in cases() if not options.names or {case.name, case.family} & set(options.names)]
    counted = Counter[str]()
    with ThreadPoolExecutor(options.jobs) as pool:
        for outcome in pool.map(bring, chosen):
            print(outcome, flush=True)
            counted["served" if outcome.document else "refused"] += 1
    print(json.dumps(counted))
    return 0


if __name__ == "__main__":
    sys.exit(main())
