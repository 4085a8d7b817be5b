"""Draw what docs/language-models.md explains, as the engine does it in this process on this host.

    python -m tests.curves smollm2 --svg docs/images/language-models.svg

Prefill and decode by the length of the prompt, tokens per second by the size of the batch, the first token of a prompt
whose beginning is in the KV cache, and what guesses by n-gram gain. The last line of stdout is the figures as JSON.
"""

import sys
from pathlib import Path

from google.protobuf.json_format import MessageToDict

from clients.command import command, command_parser, positive, print_json
from clients.output import write_atomically
from loadtest.report.axes import Axis
from loadtest.report.charts import Dot, dots, lines
from loadtest.report.vega import drawn
from tests.curves.measured import KNOWN, LENGTHS, STREAMS, TEXTS, Curves, measure
from tools.backends.vllm.settings import read_settings
from tools.repository import read_config, version_path, versions

_PANELS = (
    ("Prefill and decode", Axis("tokens of the prompt"), LENGTHS, ("to the first token [ms]", "between tokens [ms]")),
    ("Continuous batching", Axis("streams"), STREAMS, ("all streams [tokens/s]", "each stream [tokens/s]")),
    ("KV cache: the first token", Axis("% of the prompt known"), KNOWN, ("prompt of 900 tokens [ms]",)),
)


def draw(curves: Curves, file: Path) -> None:
    """Draw the panels beside each other."""
    panels = []
    for title, along, points, names in _PANELS:
        given = {name: [(float(point), curves[name][str(point)]) for point in points] for name in names}
        panels.append((title, lines(title, given, (along, Axis("")))))
    gains = [
        Dot(f"{name}, {streams}", "gain", curves[f"{name}, {streams}"]["gain"]) for name in TEXTS for streams in (1, 16)
    ]
    axis = Axis("tokens/s ÷ without, by text and streams", zero=False)
    panels.append(("Guesses by n-gram", dots("guesses", gains, axis, (1.0, "as without"))))
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, drawn(panels))


@command()
def main() -> int:
    """Measure and draw."""
    parser = command_parser("tests.curves", __doc__)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--rounds", type=positive, default=3, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--svg", type=Path, required=True, metavar="FILE", help="where to draw")
    given = parser.parse_args()
    config = MessageToDict(read_config(given.model), preserving_proto_field_name=True)
    settings = read_settings(version_path(given.model, versions(given.model)[-1]), config, "CPU")
    curves = measure(settings, given.rounds)
    draw(curves, given.svg)
    print_json({"model": given.model, "curves": curves})
    return 0


if __name__ == "__main__":
    sys.exit(main())
