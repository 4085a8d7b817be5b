"""From a PyTorch module to a file that libtorch loads: the only place that says how.

TorchScript is deprecated in torch but is what Triton's libtorch backend serves by default; when `torch.export`
packages take over, this module changes and its callers do not.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.jit._trace import TracerWarning


@contextmanager
def quiet() -> Iterator[None]:
    """Without torch's notices that TorchScript is deprecated, and those about its own quantized modules."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", "The TorchScript type system doesn't support", UserWarning)
        yield


def save(network: nn.Module, path: Path, fold: bool = True) -> None:
    """Script and freeze a network in eval mode and write it; control flow in `forward` is kept.

    Args:
        network: what to write.
        path: the file.
        fold: whether normalisations may be folded into convolutions, which saves time and changes last digits.

    Raises:
        RuntimeError: TorchScript cannot express the network; torch's message says which line.
    """
    with quiet():
        scripted = script(network)
        # A file that somebody has frozen before is not frozen again.
        frozen = torch.jit.freeze(scripted, optimize_numerics=fold) if hasattr(scripted, "training") else scripted
        torch.jit.save(frozen, str(path))


def script(network: nn.Module) -> torch.jit.ScriptModule:
    """A network in eval mode as TorchScript.

    Raises:
        RuntimeError: TorchScript cannot express it; torch's message says which line.
    """
    with quiet():
        # A frozen file has no modes any more.
        scripted: torch.jit.ScriptModule = torch.jit.script(network.eval() if hasattr(network, "training") else network)
    return scripted


def trace(network: nn.Module, arguments: Sequence[Any]) -> tuple[torch.jit.ScriptModule, list[str]]:
    """Record what a network in eval mode does with these arguments.

    Returns:
        The recording, and torch's notices of what Python decided, which is fixed as it was for these arguments.

    Raises:
        RuntimeError: it does what cannot be recorded.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", TracerWarning)
        traced: torch.jit.ScriptModule = torch.jit.trace(network.eval(), tuple(arguments), check_trace=False)
    notices = [f"{each.filename}:{each.lineno}: {str(each.message).split('. ')[0]}" for each in caught]
    return traced, list(dict.fromkeys(notices))


def wrap(network: nn.Module, forward: str) -> torch.jit.ScriptModule:
    """A scripted or traced network behind another `forward`, whose source (TorchScript) calls `self.network`.

    Raises:
        RuntimeError: the source and the network do not fit together.
    """

    # TorchScript knows a class by one `forward`, so each wrapper has a class of its own.
    class Wrapper(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

    with quiet():
        wrapped: torch.jit.ScriptModule = torch.jit.script(Wrapper(network).eval())
        wrapped.define(forward)
    return wrapped


def load(path: Path) -> torch.jit.ScriptModule:
    """Read a TorchScript file onto the CPU."""
    with quiet():
        module: torch.jit.ScriptModule = torch.jit.load(str(path), map_location="cpu")
    return module


@torch.inference_mode()
def outputs(network: nn.Module, *inputs: Any) -> tuple[Any, ...]:
    """What `forward` returns, always as a tuple."""
    returned = network(*inputs)
    return returned if isinstance(returned, tuple) else (returned,)
