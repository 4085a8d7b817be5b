"""Run a model on a large data set: `python -m clients.batch INPUT OUTPUT --model NAME`.

INPUT is a folder of images, a .npy file, or a .npz file with an array for each input; OUTPUT is a .parquet or a .npz
file. Many requests are under way at once, and the output keeps the input's order. A run that is interrupted resumes
when the same command is given again: finished rows are kept in OUTPUT.partial/ until OUTPUT is complete. A row
without an answer has the reason in the column `error`.

    python -m clients.batch photos/ labels.parquet --model cifar10_cnn --protocol grpc
    python -m clients.batch rows.npy logits.npz --model mnist_mlp --in-flight 64 --json

Exit codes: 0 all rows are good, 1 some have an error, 2 it could not be run, 130 interrupted (Ctrl-C or SIGTERM).
"""

import sys
from dataclasses import asdict
from pathlib import Path

from clients.batch.job import run
from clients.batch.plan import IN_FLIGHT
from clients.command import command, command_parser, positive, print_json
from clients.connection import add_connection_arguments, connection_from


@command(interrupted="finished rows are kept")
def main() -> int:
    """Run the model on all rows, and say how many there were."""
    parser = command_parser("clients.batch", __doc__)
    text = "a folder of images, a .npy or a .npz (by input name)"
    parser.add_argument("input", type=Path, metavar="INPUT", help=text)
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="a .parquet or .npz file; replaced if it exists")
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
    # A deadline that a slow model meets with all requests in its queue, and half a minute for a server that restarts.
    add_connection_arguments(parser, timeout_s=300.0, retries=30)
    arguments = parser.parse_args()
    done = run(
        connection_from(arguments),
        arguments.model,
        arguments.input,
        arguments.output,
        outputs=arguments.outputs,
        batch_size=arguments.batch_size,
        in_flight=arguments.in_flight,
        fresh=arguments.fresh,
        mixed_versions=arguments.mixed_versions,
    )
    if arguments.json:
        print_json(asdict(done))
    else:
        print(
            f"{done.rows} rows ({done.resumed_rows} of an earlier run, {done.errors} with an error) "
            f"in {done.seconds:.1f} s, {done.rows_per_s:g} rows/s: {done.output}"
        )
    return 1 if done.errors else 0


if __name__ == "__main__":
    sys.exit(main())
