"""The log of tritonserver: which of its lines are shown, and which say that a model does not load."""

import re
from collections.abc import Iterable, Iterator

# Harmless on a host without a GPU, but alarming to a newcomer.
NOISE = (
    "CudaDriverHelper",
    "unable to create stream for",
    "pinned system memory",
    "CUDA memory pool disabled",
    "Signal (15) received",
    "ignore version directory '.held'",  # Ignoring it is the point.
    "Failed to set config modification time",  # Of a model that was loaded over the network and has no files.
    "torch.quantize_per_tensor",  # torch's deprecation notice, at each load of an int8 model
)
# Stack frames of an exception: of torch, and of Python's importer.
STACKS = ("frame #", "<frozen importlib")
GIVES_UP = "error: creating server"
# The reason follows, up to the end of its first line.
_FAILED = re.compile(r"failed to load '([^']+)' version (\d+): (?:[A-Z][a-z ]+: )?(.*?)(?:\\n|\"?$)")


def failed_load(line: str) -> dict[str, str]:
    """What a line says of a model that did not load, by its name, with the first line of the reason; or nothing."""
    match = _FAILED.search(line)
    return {match[1]: f"{match[1]} version {match[2]} does not load: {match[3]}"} if match else {}


def without_usage(lines: Iterable[str]) -> Iterator[str]:
    """Skip the 380 lines of options that tritonserver prints around its complaint about one wrong flag."""
    is_usage = False
    for line in lines:
        continues = is_usage and (not line or line[0].isspace() or line[-1] == ":")
        is_usage = line.startswith("Usage: tritonserver") or continues
        if not is_usage:
            yield line
