"""What a backend adds to an incomplete config when it loads a model: auto-complete, which is Triton's default.

The pytorch backend adds nothing. Of the backends that do, only ONNX Runtime's additions are known here, and that vLLM's
makes a model decoupled; models of the others are judged without their tensors.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritonclient.grpc.model_config_pb2 import DataType

from tools.check.onnx_file import OnnxError, OnnxTensor, read_onnx

_COMPLETING = ("onnxruntime", "openvino", "tensorflow", "tensorrt")
_DEFAULT_BATCH = 4  # Triton's --backend-config=default-max-batch-size


@dataclass(frozen=True)
class Completion:
    """What was added, in words; `known` unless only the backend knows the tensors. With a problem, it refuses them."""

    added: str
    known: bool = True
    problem: str = ""


def complete(config: Any, file: Path) -> Completion | None:
    """Add to a config what its backend would from the model's file; None where it adds nothing."""
    if config.backend == "python" and file.is_file() and "def auto_complete_config" in file.read_text(errors="replace"):
        return Completion("whatever auto_complete_config in model.py sets", known=False)
    if config.backend == "vllm":
        return _complete_vllm(config)
    if config.backend not in _COMPLETING or (config.input and config.output):
        return None
    if config.backend != "onnxruntime" or not file.is_file():
        return Completion("inputs and outputs", known=False)
    try:
        inputs, outputs = read_onnx(file)
    except OnnxError as error:
        return Completion("", known=False, problem=str(error))
    return _complete_onnx(config, inputs, outputs)


def _complete_vllm(config: Any) -> Completion | None:
    is_whole = config.HasField("model_transaction_policy")
    if not is_whole:
        config.model_transaction_policy.decoupled = True
    if config.input and config.output:
        return None if is_whole else Completion("model_transaction_policy { decoupled: true }")
    return Completion("inputs and outputs", known=False)


def _complete_onnx(config: Any, inputs: tuple[OnnxTensor, ...], outputs: tuple[OnnxTensor, ...]) -> Completion:
    batched = all(tensor.dims[:1] == (-1,) for tensor in (*inputs, *outputs))
    if not batched and config.max_batch_size:
        sizes = ", ".join(f"{tensor.name} {list(tensor.dims)}" for tensor in (*inputs, *outputs))
        return Completion(
            "", problem=f"max_batch_size {config.max_batch_size}, and a first size that is fixed: {sizes}"
        )
    if batched:
        config.max_batch_size = config.max_batch_size or _DEFAULT_BATCH
        if config.max_batch_size > 1 and config.WhichOneof("scheduling_choice") is None:
            config.dynamic_batching.SetInParent()
    for tensors, declared in ((inputs, config.input), (outputs, config.output)):
        for tensor in () if declared else tensors:
            _declare(declared.add(), tensor, batched)
    how = f"max_batch_size {config.max_batch_size}" + ": the first size is taken for the batch" * batched
    return Completion(f"{how}; {', '.join(f'{tensor.name} {list(tensor.dims)}' for tensor in config.input)}")


def _declare(declared: Any, tensor: OnnxTensor, batched: bool) -> None:
    declared.name, declared.data_type = tensor.name, DataType.Value(tensor.data_type)
    dims = tensor.dims[1:] if batched else tensor.dims
    declared.dims.extend(dims or (1,))
    if batched and not dims:
        declared.reshape.SetInParent()
