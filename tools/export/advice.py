"""Why a network fails on its example input, where torch's message does not say what to do about it."""

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tools.contract import Value

_DTYPES = re.compile(r"same dtype|expected scalar type|should be the same|does not match weight dtype")
_CUDA = re.compile(r"not compiled with CUDA|no NVIDIA driver|'aten::\S+' .* 'CUDA'|Invalid device.*cuda", re.IGNORECASE)
_FOREIGN = re.compile(r"(?:torchvision::|torch\.ops\.torchvision\.)(\w+)")


def advice(error: str, network: nn.Module, values: Sequence[Value]) -> str:
    """What to do about an error of `forward`, as a clause; empty if torch's message must do."""
    if match := _FOREIGN.search(error):
        return (
            f"it needs torchvision::{match[1]}, an operator of torchvision's C++ library, which a "
            "TorchScript file can name but not contain; use a model without it"
        )
    if _CUDA.search(error):
        return (
            "forward moves tensors to a GPU itself; leave that to Triton: omit .cuda(), create tensors with "
            "device=x.device, keep others as buffers"
        )
    if "'indices'" in error or "index tensor" in error:
        return "an embedding takes whole numbers: give INT64"
    return _about_dtypes(network, values) if _DTYPES.search(error) else ""


def _about_dtypes(network: nn.Module, values: Sequence[Value]) -> str:
    weights = {tensor.dtype for tensor in network.parameters() if tensor.is_floating_point()}
    given = {value.dtype for value in values if isinstance(value, Tensor) and value.is_floating_point()}
    if len(weights) != 1 or weights == given:
        return ""
    (dtype,) = weights
    names = {torch.float16: "FP16", torch.float32: "FP32", torch.float64: "FP64"}
    wanted = f"give {names[dtype]} inputs, or" if dtype in names else "no input of Triton's backend is that:"
    return f"its weights are {str(dtype).removeprefix('torch.')}; {wanted} return network.float() from a function"


def what_changes(network: nn.Module, call: Callable[[], object]) -> list[str]:
    """Names of the buffers and numbers in a network that a call changes."""
    before = _state(network)
    call()
    after = _state(network)
    return [name for name, value in after.items() if name in before and not _same(before[name], value)]


def _state(network: nn.Module) -> dict[str, object]:
    kept: dict[str, object] = {name: tensor.clone() for name, tensor in network.named_buffers()}
    for name, module in network.named_modules():
        numbers = {key: value for key, value in vars(module).items() if type(value) in (int, float)}
        kept |= {f"{name}.{key}" if name else key: value for key, value in numbers.items()}
    return kept


def _same(before: object, after: object) -> bool:
    if isinstance(before, Tensor) and isinstance(after, Tensor):
        return torch.equal(before, after)
    return before == after
