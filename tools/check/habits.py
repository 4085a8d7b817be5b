"""What Triton accepts and people regret: batching that never happens, first requests that wait, threads that fight."""

from collections.abc import Iterator
from math import prod

from tritonclient.grpc.model_config_pb2 import ModelInstanceGroup

from tools.check.finding import Finding, Rule
from tools.check.pytorch import COUNTS
from tools.check.served import Model

IO = """input { name: "INPUT__0" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "OUTPUT__0" data_type: TYPE_FP32 dims: [ 2 ] label_filename: "labels.txt" }
"""
WARM = (
    'model_warmup { name: "one" batch_size: 1 '
    'inputs { key: "INPUT__0" value { data_type: TYPE_FP32 dims: [ 4 ] zero_data: true } } }\n'
)
BASE = 'name: "model"\nbackend: "pytorch"\n'
BATCHED = BASE + "max_batch_size: 8\n" + IO + WARM

NEVER = Rule(
    "batching-never",
    "dynamic_batching in a model whose batches cannot grow (max_batch_size 0 or 1)",
    example=BASE + "max_batch_size: 1\n" + IO + WARM + "dynamic_batching { }",
)
UNUSED = Rule(
    "batching-unused",
    "A model takes batches, but requests of different callers never meet in one: there is no dynamic_batching",
    example=BATCHED,
)
STALLS = Rule(
    "queue-stalls",
    "A queue policy, priorities or a timeout turn prefetching off: measured at saturation, a tenth of the throughput",
    example=BATCHED + "dynamic_batching { default_queue_policy { max_queue_size: 64 } }",
)
COLD = Rule(
    "warmup-missing",
    "A backend that compiles or allocates at the first request, without model_warmup",
    example=(BATCHED + "dynamic_batching { }").replace(WARM, ""),
)
LABELS = Rule(
    "labels-count",
    "A label file has another number of lines than its output has values",
    example=(BATCHED + "dynamic_batching { }").replace("dims: [ 2 ]", "dims: [ 3 ]"),
)
THREADS = Rule(
    "threads-oversubscribed",
    "Several CPU instances of a pytorch model, each with as many threads as there are cores",
    example=BATCHED + "dynamic_batching { }\ninstance_group { kind: KIND_CPU count: 4 }",
)
RULES = (NEVER, UNUSED, STALLS, COLD, LABELS, THREADS)

WARMING = ("pytorch", "onnxruntime", "tensorrt", "tensorflow", "openvino")


def check(model: Model) -> Iterator[Finding]:
    """All that a model that loads will be regretted for."""
    yield from check_labels(model)
    if model.ensemble:
        return
    yield from check_batching(model)
    yield from check_queue(model)
    yield from check_threads(model)
    if model.config.backend in WARMING and not model.config.model_warmup and model.config.input:
        yield COLD.at(
            model.place(),
            found="no model_warmup",
            expected="a sample that is run before the model reports ready",
            remedy="add model_warmup with zero_data: true for each input",
        )


def check_batching(model: Model) -> Iterator[Finding]:
    """A dynamic batcher where batches can grow, and only there."""
    config, largest = model.config, model.config.max_batch_size
    if config.HasField("dynamic_batching") and largest < 2:
        yield NEVER.at(
            model.place("dynamic_batching"),
            found=f"dynamic_batching with max_batch_size {largest}",
            expected="max_batch_size of 2 or more",
            remedy="raise max_batch_size, or remove dynamic_batching",
        )
    if largest > 1 and config.WhichOneof("scheduling_choice") is None:
        yield UNUSED.at(
            model.place("max_batch_size"),
            found=f"max_batch_size {largest} without dynamic_batching",
            expected="dynamic_batching, so that requests that wait are served together",
            remedy="add `dynamic_batching { }`",
        )


def check_queue(model: Model) -> Iterator[Finding]:
    """Settings of the queue that stall the instances."""
    batching = model.config.dynamic_batching
    set_there = {"priority_levels": batching.priority_levels}
    for name in ("max_queue_size", "default_timeout_microseconds", "allow_timeout_override"):
        set_there[f"default_queue_policy.{name}"] = getattr(batching.default_queue_policy, name)
    if named := [name for name, value in set_there.items() if value]:
        yield STALLS.at(
            model.place("dynamic_batching", 0, *named[0].split(".")),
            found=", ".join(named),
            expected="a queue without limits: Triton then prepares the next batch while one computes",
            remedy="limit requests in front of the server (a proxy, clients), not in its queue",
        )


def check_labels(model: Model) -> Iterator[Finding]:
    """As many labels as values."""
    for number, output in enumerate(model.config.output):
        file = model.folder / output.label_filename
        if not output.label_filename or -1 in output.dims or not file.is_file():
            continue
        there = len(file.read_text(errors="replace").splitlines())
        if there != prod(output.dims):
            yield LABELS.at(
                model.place("output", number, "label_filename"),
                found=f"{output.label_filename} has {there} lines",
                expected=f"{prod(output.dims)}, one for each value of '{output.name}'",
                remedy="correct the file, or the output's dims",
            )


def check_threads(model: Model) -> Iterator[Finding]:
    """Instances share the cores."""
    many = [
        group for group in model.config.instance_group if group.kind == ModelInstanceGroup.KIND_CPU and group.count > 1
    ]
    if model.config.backend == "pytorch" and many and COUNTS[0] not in model.config.parameters:
        yield THREADS.at(
            model.place("instance_group"),
            found=f"{many[0].count} CPU instances without {COUNTS[0]}",
            expected=f"instances times {COUNTS[0]} of at most the number of cores",
            remedy=f'add parameters {{ key: "{COUNTS[0]}" value {{ string_value: "1" }} }}',
        )
