"""Convert PyTorch modules to TorchScript, save and load it: the only module that knows how.

TorchScript is deprecated in torch but is what Triton's libtorch backend serves by default. When `torch.export` packages
take over, this module changes and its callers do not.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.jit._trace import TracerWarning

from tools.placement import follow_input


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress torch's warnings that TorchScript is deprecated, and those about its own quantized modules."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", "The TorchScript type system doesn't support", UserWarning)
        yield


def save(network: nn.Module, path: Path, fold: bool = True) -> list[str]:
    """Script a network in eval mode, freeze and save it, or raise as `script` does.

    Tensors that it would create on the CPU, wherever it is served, follow its input's device instead; returns their
    lines.
    `fold` folds normalizations into convolutions, which is faster and changes the last digits.
    """
    scripted = script(network)
    with quiet():
        # An imported file may be frozen already.
        frozen = torch.jit.freeze(scripted, optimize_numerics=fold) if hasattr(scripted, "training") else scripted
        torch.jit.save(frozen, str(path))
        # In the file, unlike in memory, all constants and types are plain.
        loaded = load(path)
        if moved := follow_input(loaded):
            torch.jit.save(loaded, str(path))
    return [found.line for found in moved]


def script(network: nn.Module) -> torch.jit.ScriptModule:
    """Script a network in eval mode; RuntimeError with the line that TorchScript cannot express."""
    with quiet():
        # A frozen module has no modes.
        scripted: torch.jit.ScriptModule = torch.jit.script(network.eval() if hasattr(network, "training") else network)
    return scripted


def trace(network: nn.Module, arguments: Sequence[Any]) -> tuple[torch.jit.ScriptModule, list[str]]:
    """Trace a network in eval mode; also return torch's warnings about control flow that the arguments fix.

    Raises RuntimeError if it cannot be traced.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", TracerWarning)
        traced: torch.jit.ScriptModule = torch.jit.trace(network.eval(), tuple(arguments), check_trace=False)
    notices = [f"{warning.filename}:{warning.lineno}: {str(warning.message).split('. ')[0]}" for warning in caught]
    return traced, list(dict.fromkeys(notices))


def wrap(network: nn.Module, forward: str) -> torch.jit.ScriptModule:
    """Wrap a scripted or traced network in another `forward`, given as TorchScript source that calls `self.network`.

    Raises RuntimeError if the source does not match the network.
    """

    # TorchScript compiles one `forward` per class, so each wrapper needs its own class.
    class Wrapper(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

    with quiet():
        wrapped: torch.jit.ScriptModule = torch.jit.script(Wrapper(network).eval())
        wrapped.define(forward)
    return wrapped


def load(path: Path) -> torch.jit.ScriptModule:
    """Load a TorchScript file onto the CPU."""
    with quiet():
        module: torch.jit.ScriptModule = torch.jit.load(str(path), map_location="cpu")
    return module


@torch.inference_mode()
def outputs(network: nn.Module, *inputs: Any) -> tuple[Any, ...]:
    """Call a network and return its outputs, always as a tuple."""
    returned = network(*inputs)
    return returned if isinstance(returned, tuple) else (returned,)
