"""List all reports in a folder on one page, the newest first: title, date, what was asked, what came out.

The pages are those of load tests, peaks, capacities, comparisons, tunings, verifications, the doctor and benchmarks.
The index is written beside them, as index.html; its address is printed, and the last line of stdout is one JSON
document.

    python -m loadtest.reports
    python -m loadtest.reports build/loadtest
"""

import sys
from dataclasses import asdict
from pathlib import Path

from clients.command import command, command_parser, print_json
from clients.errors import InvalidInput
from clients.output import try_folder
from loadtest.report.index import entries, write_index


@command()
def main() -> int:
    """Write the index."""
    parser = command_parser("loadtest.reports", __doc__)
    text = "in which reports lie, and folders of them (default: %(default)s)"
    parser.add_argument("folder", type=Path, nargs="?", default=Path("build"), metavar="FOLDER", help=text)
    folder = parser.parse_args().folder.resolve()
    if not folder.is_dir():
        raise InvalidInput(f"{folder}: expected a folder of reports, and there is none; run a load test first")
    try_folder(folder, "FOLDER")
    listed = entries(folder)
    index = write_index(folder, listed)
    print(index.as_uri())
    print_json({"index": str(index), "reports": [asdict(entry) for entry in listed]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
