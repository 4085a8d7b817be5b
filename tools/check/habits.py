"""What loads but causes trouble later: batching that never happens, slow first requests, oversubscribed cores."""

import re
from collections.abc import Iterator
from math import prod

from tritonclient.grpc.model_config_pb2 import ModelInstanceGroup

from tools.backends.pytorch.parameters import COUNTS
from tools.check.finding import Finding, Place, Rule
from tools.check.served import Model

NEVER = Rule("batching-never", "dynamic_batching in a model whose batches cannot grow (max_batch_size 0 or 1)")
UNUSED = Rule(
    "batching-unused",
    "A model takes batches, but requests of different clients are never batched: dynamic_batching is missing",
)
STALLS = Rule(
    "queue-stalls",
    "A queue policy, priorities or a timeout disable prefetching: throughput at saturation drops to a tenth",
)
COLD = Rule("warmup-missing", "No model_warmup for a backend that compiles or allocates on the first request")
LABELS = Rule("labels-count", "A label file does not have one line per value of its output")
THREADS = Rule("threads-oversubscribed", "Several CPU instances of a pytorch model, each with one thread per core")
ENCODING = Rule("config-encoding", "A config is not UTF-8: Triton reads it, but other tools or clients may not")
RULES = (NEVER, UNUSED, STALLS, COLD, LABELS, THREADS, ENCODING)

# A byte as it is read that is not UTF-8.
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_WARMING = ("pytorch", "onnxruntime", "tensorrt", "tensorflow", "openvino")


def check(model: Model) -> Iterator[Finding]:
    """Yield all findings about a model that loads."""
    yield from _check_labels(model)
    yield from _check_encoding(model)
    if model.ensemble:
        return
    yield from _check_batching(model)
    yield from _check_queue(model)
    yield from _check_threads(model)
    if model.config.backend in _WARMING and not model.config.model_warmup and model.config.input:
        yield COLD.at(
            model.place(),
            found="no model_warmup",
            expected="a sample request that runs before the model reports ready",
            remedy="add model_warmup with zero_data: true for each input",
        )


def _check_batching(model: Model) -> Iterator[Finding]:
    config, largest = model.config, model.config.max_batch_size
    if config.HasField("dynamic_batching") and largest < 2:
        yield NEVER.at(
            model.place("dynamic_batching"),
            found=f"dynamic_batching with max_batch_size {largest}",
            expected="a max_batch_size of 2 or more",
            remedy="raise max_batch_size, or remove dynamic_batching",
        )
    if largest > 1 and config.WhichOneof("scheduling_choice") is None:
        yield UNUSED.at(
            model.place("max_batch_size"),
            found=f"max_batch_size {largest} without dynamic_batching",
            expected="dynamic_batching, so that queued requests run as one batch",
            remedy="add `dynamic_batching { }`",
        )


def _check_queue(model: Model) -> Iterator[Finding]:
    batching = model.config.dynamic_batching
    settings = {"priority_levels": batching.priority_levels}
    for name in ("max_queue_size", "default_timeout_microseconds", "allow_timeout_override"):
        settings[f"default_queue_policy.{name}"] = getattr(batching.default_queue_policy, name)
    if limits := [name for name, value in settings.items() if value]:
        yield STALLS.at(
            model.place("dynamic_batching", *limits[0].split(".")),
            found=", ".join(limits),
            expected="a queue without limits, so that Triton prepares the next batch while one runs",
            remedy="limit requests before they reach the server (in a proxy or the clients)",
        )


def _check_labels(model: Model) -> Iterator[Finding]:
    for number, output in enumerate(model.config.output):
        file = model.folder / output.label_filename
        if not output.label_filename or -1 in output.dims or not file.is_file():
            continue
        count = len(file.read_text(errors="replace").splitlines())
        if count != prod(output.dims):
            yield LABELS.at(
                model.place("output", number, "label_filename"),
                found=f"{output.label_filename} has {count} lines",
                expected=f"{prod(output.dims)}, one per value of '{output.name}'",
                remedy="correct the file or the output's dims",
            )


def _check_encoding(model: Model) -> Iterator[Finding]:
    for number, line in enumerate(model.source.text.split("\n"), 1):
        if wrong := _NOT_UTF8.search(line):
            yield ENCODING.at(
                Place(model.source.file, number, wrong.start() + 1),
                found=f"the byte 0x{ord(wrong[0]) - 0xDC00:x}",
                expected="UTF-8 text",
                remedy="save the file as UTF-8, for example with iconv",
            )
            return


def _check_threads(model: Model) -> Iterator[Finding]:
    crowds = [
        group for group in model.config.instance_group if group.kind == ModelInstanceGroup.KIND_CPU and group.count > 1
    ]
    if model.config.backend == "pytorch" and crowds and COUNTS[0] not in model.config.parameters:
        yield THREADS.at(
            model.place("instance_group"),
            found=f"{crowds[0].count} CPU instances without {COUNTS[0]}",
            expected=f"{COUNTS[0]} times instances no larger than the number of cores",
            remedy=f'add parameters {{ key: "{COUNTS[0]}" value {{ string_value: "1" }} }}',
        )
