"""Tensors that Triton's batcher creates or splits for a model: batch_input and batch_output."""

from collections.abc import Iterator
from typing import Any

from tritonclient.grpc.model_config_pb2 import BatchInput, DataType

from tools.check.finding import Finding, Rule
from tools.check.served import Model
from tools.check.tensors import type_name

BATCH_KIND = Rule(
    "batch-tensor-source",
    "A batch input or output has an unknown kind, or not exactly one source input",
    "core",
)
BATCH_TYPE = Rule("batch-input-type", "A batch input is neither TYPE_INT32 nor TYPE_FP32", "core")
BATCH_NAME = Rule("batch-tensor-name", "A batch input or output names an unknown tensor, or the same one twice", "core")
RULES = (BATCH_KIND, BATCH_TYPE, BATCH_NAME)


def check(model: Model) -> Iterator[Finding]:
    """Yield all findings about these tensors."""
    yield from _check_batch_inputs(model)
    yield from _check_batch_outputs(model)


def _check_batch_inputs(model: Model) -> Iterator[Finding]:
    for number, tensor in enumerate(model.config.batch_input):
        yield from _check_source(model, "batch_input", number, tensor, tensor.kind in BatchInput.Kind.values())
        if tensor.data_type not in (DataType.TYPE_INT32, DataType.TYPE_FP32):
            yield BATCH_TYPE.at(
                model.place("batch_input", number, "data_type"),
                found=f"batch_input of type {type_name(tensor.data_type)}",
                expected="TYPE_INT32 or TYPE_FP32",
                remedy="set one of them",
            )


def _check_batch_outputs(model: Model) -> Iterator[Finding]:
    outputs = {output.name for output in model.config.output}
    for number, tensor in enumerate(model.config.batch_output):
        yield from _check_source(model, "batch_output", number, tensor, tensor.kind == 0)
        for index, name in enumerate(tensor.target_name):
            if name not in outputs or name in tensor.target_name[:index]:
                yield BATCH_NAME.at(
                    model.place("batch_output", number, "target_name", index),
                    found=f"batch_output targets output '{name}'"
                    + (" again" if name in outputs else ", which does not exist"),
                    expected=f"an output, each at most once: {', '.join(sorted(outputs)) or 'none'}",
                    remedy="name an output",
                )


def _check_source(model: Model, role: str, number: int, tensor: Any, known: bool) -> Iterator[Finding]:
    inputs = [source.name for source in model.config.input]
    if len(tensor.source_input) != 1 or not known:
        yield BATCH_KIND.at(
            model.place(role, number),
            found=f"{role} with {len(tensor.source_input)} source inputs" if known else f"{role} of kind {tensor.kind}",
            expected="one source_input and a known kind",
            remedy="name the input that it is computed from, or correct the kind",
        )
    for index, name in enumerate(tensor.source_input):
        if name not in inputs:
            yield BATCH_NAME.at(
                model.place(role, number, "source_input", index),
                found=f"{role} names unknown input '{name}'",
                expected=f"one of {', '.join(inputs) or 'none'}",
                remedy="name an input",
            )
