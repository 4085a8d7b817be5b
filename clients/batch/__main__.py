"""Run a model on a large data set: `python -m clients.batch INPUT OUTPUT --model NAME`.

INPUT is a folder of images, a .npy file, or a .npz file with an array for each input; OUTPUT is a .parquet or a .npz
file. Many requests are under way at once, and the output keeps the input's order. A run that is interrupted resumes
when the same command is given again: finished rows are kept in OUTPUT.partial/ until OUTPUT is complete. A row
without an answer has the reason in the column `error`.

    python -m clients.batch photos/ labels.parquet --model cifar10_cnn --protocol grpc
    python -m clients.batch rows.npy logits.npz --model mnist_mlp --in-flight 64 --json

Where OUTPUT is a folder, it gets a Parquet file for each part of the rows, and _manifest.json once all are there. INPUT
may also be Parquet with a column for each input, and both may be anywhere that pyarrow reaches (s3://, gs://). With
--ray, the workers of a Ray cluster do the parts; `local` starts one on this host.

    python -m clients.batch s3://rows/2026/ s3://answers/2026/ --model mnist_mlp --ray auto --more-urls triton-2:8000

Exit codes: 0 all rows are good, 1 some have an error, 2 it could not be run, 130 interrupted (Ctrl-C or SIGTERM).
"""

import argparse
import sys
from dataclasses import asdict, replace
from pathlib import Path

from clients.batch.datasets import PART_ROWS
from clients.batch.folder import Execute, here, run_parts
from clients.batch.job import Summary, run
from clients.batch.places import without_keys
from clients.batch.plan import IN_FLIGHT, Options
from clients.command import address, command, command_parser, options_from, positive, print_json
from clients.connection import add_connection_arguments, connection_from
from clients.errors import InvalidInput

# Processes of Ray's for each server.
WORKERS = 2


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("clients.batch", __doc__)
    text = "a folder of images or a .npy; into a file also a .npz (by input name), into a folder also Parquet and URIs"
    parser.add_argument("input", metavar="INPUT", help=text)
    text = "a .parquet or .npz file, replaced if it exists; or a folder of parts (no suffix, or / at the end)"
    parser.add_argument("output", metavar="OUTPUT", help=text)
    parser.add_argument("--model", required=True, metavar="NAME")
    parser.add_argument("--outputs", nargs="+", metavar="NAME", help="outputs to keep (default: all)")
    text = f"requests at once (default: {IN_FLIGHT}, fewer if they are large)"
    parser.add_argument("--in-flight", type=positive, metavar="N", help=text)
    text = "rows per request (default: the model's maximum)"
    parser.add_argument("--batch-size", type=positive, metavar="N", help=text)
    parser.add_argument("--fresh", action="store_true", help="start again instead of resuming an earlier run")
    text = "once the version is no longer served with which the run began, ask the newest, and say which in a column"
    parser.add_argument("--mixed-versions", action="store_true", help=text)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a line")
    text = "further servers of the same repository; requests go to all of them"
    parser.add_argument("--more-urls", nargs="+", type=address, default=[], metavar="HOST:PORT", help=text)
    text = f"rows of a part of a folder (default: {PART_ROWS:,}, fewer if they are large)"
    parser.add_argument("--part-rows", type=positive, metavar="N", help=text)
    text = "have the workers of a Ray cluster do it: HOST:PORT, `auto` on one of its machines, or `local`"
    parser.add_argument("--ray", metavar="ADDRESS", help=text)
    text = f"of Ray, at once (default: {WORKERS} for each server)"
    parser.add_argument("--workers", type=positive, metavar="N", help=text)
    # A deadline that a slow model meets with all requests in its queue, and half a minute for a server that restarts.
    add_connection_arguments(parser, timeout_s=300.0, retries=30)
    return parser


@command(interrupted="finished rows are kept")
def main() -> int:
    """Run the model on all rows, and say how many there were."""
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.workers and not arguments.ray:
        parser.error("--workers are those of --ray")
    done = _run(arguments)
    if arguments.json:
        print_json(asdict(done))
    else:
        print(
            f"{done.rows} rows ({done.resumed_rows} of an earlier run, {done.errors} with an error) "
            f"in {done.seconds:.1f} s, {done.rows_per_s:g} rows/s: {done.output}"
        )
    return 1 if done.errors else 0


def _run(arguments: argparse.Namespace) -> Summary:
    """Write one file, or a folder of parts; both take the same options."""
    first = connection_from(arguments)
    connections = [first, *(replace(first, url=url) for url in arguments.more_urls)]
    options, output = options_from(arguments, Options), arguments.output
    if not (arguments.ray or options.part_rows or _names_folder(output)):
        if "://" in arguments.input or arguments.input.endswith(".parquet"):
            raise InvalidInput(
                f"{without_keys(arguments.input)}: the output of Parquet and of URIs is a folder; give an OUTPUT that "
                "has no suffix"
            )
        return run(connections, arguments.model, Path(arguments.input), Path(output), options)
    if output.endswith((".parquet", ".npz")):
        raise InvalidInput(
            f"{without_keys(output)}: expected the name of a folder, without a suffix; URIs, --ray and --part-rows "
            "are for folders"
        )
    execute = _executor(arguments, len(connections))
    return run_parts(connections, arguments.model, arguments.input, output, options, execute)


def _names_folder(output: str) -> bool:
    return "://" in output or output.endswith("/") or Path(output).is_dir() or not Path(output).suffix


def _executor(arguments: argparse.Namespace, servers: int) -> Execute:
    if not arguments.ray:
        return here
    from clients.batch.cluster import on_ray

    return on_ray(arguments.ray, arguments.workers or WORKERS * servers)


if __name__ == "__main__":
    sys.exit(main())
