"""End every long command at many moments, by every usual signal, and look at what it leaves behind.

    python -m tests.kills                                      # every command, four signals, ten moments each: hours
    python -m tests.kills loadtest.run clients.batch --moments 4

Whatever the moment, there may be no process and no shared memory left, no traceback, no earlier result changed, and
the repository must be valid. The last line of stdout is one JSON document; exit code 1 means that something was left.
"""

import signal
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from clients.command import command, command_parser, positive, print_json, say, text_table
from tests.kills.cases import CASES, MODEL
from tests.kills.endings import SIGNALS, end
from tools.bench.copies import write_copies
from tools.serve.tritonserver import Options, Server


@command()
def main() -> int:
    """End the commands, one at a time."""
    parser = command_parser("tests.kills", __doc__)
    parser.add_argument("commands", nargs="*", choices=[*CASES, []], metavar="COMMAND", help=f"of {', '.join(CASES)}")
    parser.add_argument("--moments", type=positive, default=10, help="per signal (default: %(default)s)")
    names = [number.name for number in SIGNALS]
    parser.add_argument("--signals", nargs="+", choices=names, default=names, help="(default: all)")
    arguments = parser.parse_args()
    rows, left = [["command", *(f"{name} clean" for name in arguments.signals), "exit codes"]], 0
    with TemporaryDirectory() as folder, Server(Options(write_copies([MODEL], Path(folder)))) as server:
        variables = {"TRITON_HTTP_URL": server.http, "TRITON_GRPC_URL": server.grpc}
        for name in arguments.commands or CASES:
            codes: Counter[int] = Counter()
            clean = Counter(dict.fromkeys(arguments.signals, 0))
            spared = {number.name for number in CASES[name].spared}
            for signal_name in [each for each in arguments.signals if each not in spared]:
                for step in range(arguments.moments):
                    moment = CASES[name].seconds * (step + 0.5) / arguments.moments
                    ending = end(CASES[name], signal.Signals[signal_name], moment, variables)
                    codes[ending.code] += 1
                    clean[signal_name] += not ending.left
                    left += bool(ending.left)
                    if ending.left:
                        say(f"{name}, {signal_name} after {moment:.2f} s: {ending}")
            counts = ("-" if each in spared else f"{clean[each]} of {arguments.moments}" for each in arguments.signals)
            rows.append([name, *counts, " ".join(f"{code}×{count}" for code, count in sorted(codes.items()))])
            say("  ".join(rows[-1]))
    print(text_table(rows))
    print_json({"left": left, "commands": {row[0]: row[1:] for row in rows[1:]}})
    return int(left > 0)


if __name__ == "__main__":
    sys.exit(main())
