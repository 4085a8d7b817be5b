"""The log of tritonserver: which of its lines are shown."""

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


def without_usage(lines: Iterable[str]) -> Iterator[str]:
    """Skip the 380 lines of options that tritonserver prints around its complaint about one wrong flag."""
    is_usage = False
    for line in lines:
        continues = is_usage and (not line or line[0].isspace() or line[-1] == ":")
        is_usage = line.startswith("Usage: tritonserver") or continues
        if not is_usage:
            yield line
