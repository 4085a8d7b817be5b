"""Tensors that Triton's batcher makes for a model, or cuts up for it: batch_input and batch_output."""

from collections.abc import Iterator
from typing import Any

from tritonclient.grpc.model_config_pb2 import BatchInput, DataType

from tools.check.finding import Finding, Rule
from tools.check.served import Model
from tools.check.tensors import BASE, type_name

BATCH_KIND = Rule(
    "batch-tensor-source",
    "A batch input or output does not have exactly one source input, or its kind does not exist",
    "core",
    BASE + 'batch_input { kind: BATCH_ELEMENT_COUNT target_name: "COUNT" data_type: TYPE_INT32 }',
)
BATCH_TYPE = Rule(
    "batch-input-type",
    "A batch input is neither TYPE_INT32 nor TYPE_FP32",
    "core",
    BASE
    + 'input { name: "INPUT__0" data_type: TYPE_FP32 dims: [ -1 ] }\n'
    + 'batch_input { kind: BATCH_ELEMENT_COUNT target_name: "COUNT" data_type: TYPE_INT64 source_input: "INPUT__0" }',
)
BATCH_NAME = Rule(
    "batch-tensor-name",
    "A batch input or output names a tensor that does not exist, or one twice",
    "core",
    BASE + 'batch_input { kind: BATCH_ELEMENT_COUNT target_name: "N" data_type: TYPE_INT32 source_input: "INPUT" }',
)
RULES = (BATCH_KIND, BATCH_TYPE, BATCH_NAME)


def check(model: Model) -> Iterator[Finding]:
    """All that is wrong with these tensors."""
    yield from check_batch_inputs(model)
    yield from check_batch_outputs(model)


def check_batch_inputs(model: Model) -> Iterator[Finding]:
    """Tensors that the batcher makes for the model."""
    for number, tensor in enumerate(model.config.batch_input):
        yield from check_source(model, "batch_input", number, tensor, tensor.kind in BatchInput.Kind.values())
        if tensor.data_type not in (DataType.TYPE_INT32, DataType.TYPE_FP32):
            yield BATCH_TYPE.at(
                model.place("batch_input", number, "data_type"),
                found=f"batch_input of {type_name(tensor.data_type)}",
                expected="TYPE_INT32 or TYPE_FP32",
                remedy="set one of these",
            )


def check_batch_outputs(model: Model) -> Iterator[Finding]:
    """Tensors of the model that the batcher cuts up."""
    outputs = {output.name for output in model.config.output}
    for number, tensor in enumerate(model.config.batch_output):
        yield from check_source(model, "batch_output", number, tensor, tensor.kind == 0)
        for index, name in enumerate(tensor.target_name):
            if name not in outputs or name in tensor.target_name[:index]:
                yield BATCH_NAME.at(
                    model.place("batch_output", number, "target_name", index),
                    found=f"batch_output names the output '{name}'" + " again" * (name in outputs),
                    expected=f"outputs that exist, each once: {', '.join(sorted(outputs)) or 'none'}",
                    remedy="name an output",
                )


def check_source(model: Model, role: str, number: int, tensor: Any, known: bool) -> Iterator[Finding]:
    """Exactly one source, which is an input."""
    inputs = [each.name for each in model.config.input]
    if len(tensor.source_input) != 1 or not known:
        yield BATCH_KIND.at(
            model.place(role, number),
            found=f"{role} with {len(tensor.source_input)} source_input" if known else f"{role} of kind {tensor.kind}",
            expected="one source_input and a kind that exists",
            remedy="name the one input that it is made from",
        )
    for index, name in enumerate(tensor.source_input):
        if name not in inputs:
            yield BATCH_NAME.at(
                model.place(role, number, "source_input", index),
                found=f"{role} names the input '{name}'",
                expected=f"an input: {', '.join(inputs) or 'none'}",
                remedy="name an input",
            )
