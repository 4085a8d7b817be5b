"""Draw what docs/language-models.md explains, as the engine does it in this process on this host.

    python -m tests.curves smollm2 --svg docs/images/language-models.svg

Prefill and decode by the length of the prompt, tokens per second by the size of the batch, the first token of a prompt
whose beginning is in the KV cache, and what guesses by n-gram gain. The last line of stdout is the figures as JSON.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.json_format import MessageToDict

from clients.command import command, command_parser, positive, print_json
from tests.curves.measured import KNOWN, LENGTHS, STREAMS, TEXTS, Curves, measure
from tools.backends.vllm.settings import read_settings
from tools.repository import read_config, version_path, versions

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLORS = ("#1f5fbf", "#b4690e")
_PANELS = (
    ("Prefill and decode", "tokens of the prompt", LENGTHS, ("to the first token [ms]", "between tokens [ms]")),
    ("Continuous batching", "streams", STREAMS, ("all streams [tokens/s]", "each stream [tokens/s]")),
    ("KV cache: the first token", "% of the prompt known", KNOWN, ("prompt of 900 tokens [ms]",)),
)


def draw(curves: Curves, file: Path) -> None:
    """Draw the panels beside each other."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "curves", "font.size": 9}):
        figure = Figure(figsize=(12, 3), layout="constrained")
        *panels, last = figure.subplots(1, 4)
        for axes, (title, along, points, lines) in zip(panels, _PANELS, strict=True):
            for name, color in zip(lines, _COLORS, strict=False):
                axes.plot(points, [curves[name][str(point)] for point in points], "o-", color=color, label=name, ms=3)
            axes.set(title=title, xlabel=along, ylim=(0, 1.25 * max(curves[lines[0]].values())))
            axes.legend(frameon=False)
        _draw_guesses(last, curves)
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, metadata={"Date": None})


def _draw_guesses(axes: "Axes", curves: Curves) -> None:
    names = [f"{name}, {streams}" for name in TEXTS for streams in (1, 16)]
    axes.barh(names, [curves[name]["gain"] for name in names], color=_COLORS[0], height=0.5)
    axes.axvline(1, color=_COLORS[1])
    axes.invert_yaxis()
    axes.set(title="Guesses by n-gram", xlabel="tokens/s ÷ without, by text and streams")


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
