"""From a PyTorch module to a file that libtorch loads: the only place that says how.

TorchScript is deprecated in torch but is what Triton's libtorch backend serves by default; when `torch.export`
packages take over, this module changes and its callers do not.
"""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn


def save(network: nn.Module, path: Path) -> None:
    """Script and freeze a network in eval mode and write it; control flow in `forward` is kept.

    Raises:
        RuntimeError: TorchScript cannot express the network; torch's message says which line.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        # torch's own quantized modules are written in a way that it warns of.
        warnings.filterwarnings("ignore", "The TorchScript type system doesn't support", UserWarning)
        frozen = torch.jit.freeze(torch.jit.script(network.eval()))
        torch.jit.save(frozen, str(path))


def load(path: Path) -> torch.jit.ScriptModule:
    """Read a TorchScript file onto the CPU."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module: torch.jit.ScriptModule = torch.jit.load(str(path), map_location="cpu")
    return module


@torch.inference_mode()
def outputs(network: nn.Module, *inputs: Tensor) -> tuple[Tensor, ...]:
    """What `forward` returns, always as a tuple."""
    returned = network(*inputs)
    return returned if isinstance(returned, tuple) else (returned,)
