"""Known bugs of Triton's core and backends that a config shows: the model loads, and some answers are wrong.

Each was read in the source or in the issue that its rule names, in `github.com/triton-inference-server`.
"""

from collections.abc import Iterator

from tritonclient.grpc.model_config_pb2 import DataType

from tools.backends.pytorch.parameters import TRUE
from tools.check.finding import Finding, Rule
from tools.check.served import Model

SWAPPED = Rule(
    "states-swapped",
    "Implicit states whose input names sort in another order than their output names: from the second request of a "
    "sequence on, they are given to each other's inputs (server#8586)",
    level="error",
)
NOT_KEPT = Rule(
    "state-not-kept",
    "Implicit state in a backend that does not return it: every request sees the initial state "
    "(server: docs/user_guide/implicit_state_management.md)",
    level="error",
)
CACHE_SHAPES = Rule(
    "cache-shapes",
    "response_cache with several variable sizes in one input: requests whose bytes are equal and whose shapes are not "
    "get each other's answers (core: src/cache_manager.cc)",
)
CACHE_OUTPUTS = Rule(
    "cache-outputs",
    "response_cache with several outputs: a request gets those that an earlier one asked for (core: "
    "src/cache_manager.cc, server#4362)",
)
CACHE_LEAK = Rule("cache-leak", "response_cache leaks memory in this release (core#449)", until="25.09")
RAGGED = Rule("ensemble-ragged", "allow_ragged_batch or batch tensors in an ensemble are ignored (server#8653)")
BATCH_TENSOR = Rule(
    "batch-tensor-ignored", "The Python backend ignores batch_input and batch_output (python_backend: src/python_be.cc)"
)
LABELS = Rule(
    "labels-of-strings",
    "Labels for an output of strings: a request for its classes ends the server (server#8267)",
    until="25.07",
)
SHARED = Rule(
    "state-shared",
    "Instances of a pytorch model with sequences share its weights, so that what it keeps in buffers mixes "
    "(pytorch_backend#54)",
)
RULES = (SWAPPED, NOT_KEPT, SHARED, CACHE_SHAPES, CACHE_OUTPUTS, CACHE_LEAK, RAGGED, BATCH_TENSOR, LABELS)

_STATELESS = ("python", "openvino", "tensorflow", "dali", "fil", "vllm")


def check(model: Model) -> Iterator[Finding]:
    """Yield the bugs that a model would meet."""
    yield from _check_states(model)
    yield from _check_sharing(model)
    yield from _check_cache(model)
    yield from _check_ignored(model)
    for number, output in enumerate(model.config.output):
        if output.label_filename and output.data_type == DataType.TYPE_STRING:
            yield LABELS.at(
                model.place("output", number, "label_filename"),
                found=f"labels for output '{output.name}', which is TYPE_STRING",
                expected="labels for numbers",
                remedy="remove label_filename",
            )


def _check_states(model: Model) -> Iterator[Finding]:
    states = list(model.config.sequence_batching.state)
    place = model.place("sequence_batching", "state")
    # Triton pairs them by their places in two maps, which are sorted by bytes.
    by_input = sorted(states, key=lambda state: state.input_name.encode())
    by_output = sorted(states, key=lambda state: state.output_name.encode())
    for input_state, output_state in zip(by_input, by_output, strict=True):
        if input_state.input_name != output_state.input_name:
            yield SWAPPED.at(
                place,
                found=f"output '{output_state.output_name}' goes to input '{input_state.input_name}'",
                expected=f"'{output_state.input_name}', as the config says",
                remedy="rename inputs or outputs, so that both sort in the same order",
            )
            break
    if states and model.config.backend in _STATELESS:
        yield NOT_KEPT.at(
            place,
            found=f"implicit state with backend '{model.config.backend}'",
            expected="onnxruntime, pytorch or tensorrt",
            remedy="keep the state in the model by correlation ID, or in the client",
        )


def _check_sharing(model: Model) -> Iterator[Finding]:
    config, key = model.config, "ENABLE_WEIGHT_SHARING"
    shared = key in config.parameters and config.parameters[key].string_value.lower() in TRUE
    stateful = config.HasField("sequence_batching") and not config.sequence_batching.state
    if config.backend == "pytorch" and shared and stateful:
        yield SHARED.at(
            model.place(f"parameters[{key}]"),
            found=f"{key} with sequence_batching and no implicit state",
            expected="weights of its own for each instance of a model that keeps state",
            remedy=f"remove {key}, or keep the state in `state`",
        )


def _check_cache(model: Model) -> Iterator[Finding]:
    config, place = model.config, model.place("response_cache")
    if not config.response_cache.enable:
        return
    yield CACHE_LEAK.at(
        place, found="response_cache", expected="a release that frees its entries", remedy="upgrade, or remove it"
    )
    for tensor in config.input:
        if list(tensor.dims).count(-1) + (config.max_batch_size > 0) > 1:
            yield CACHE_SHAPES.at(
                place,
                found=f"response_cache, and input '{tensor.name}' of {list(tensor.dims)}"
                + " with a batch dimension" * (config.max_batch_size > 0),
                expected="at most one variable size, the batch included",
                remedy="remove response_cache, or fix the sizes",
            )
            break
    if len(config.output) > 1:
        yield CACHE_OUTPUTS.at(
            place,
            found=f"response_cache with {len(config.output)} outputs",
            expected="one output, or clients that always ask for the same ones",
            remedy="remove response_cache, or let all clients ask for the same outputs",
        )


def _check_ignored(model: Model) -> Iterator[Finding]:
    ragged = [number for number, tensor in enumerate(model.config.input) if tensor.allow_ragged_batch]
    batched = [name for name in ("batch_input", "batch_output") if len(getattr(model.config, name))]
    places = [model.place("input", number, "allow_ragged_batch") for number in ragged if model.ensemble]
    for place in [*places, *(model.place(name) for name in batched if model.ensemble)]:
        yield RAGGED.at(
            place,
            found="ragged batching in an ensemble",
            expected="it in the model that runs the batch",
            remedy="move it there",
        )
    for name in batched if model.config.backend == "python" else []:
        yield BATCH_TENSOR.at(
            model.place(name),
            found=f"{name} with backend 'python'",
            expected="a backend that fills it, such as onnxruntime or pytorch",
            remedy="compute it in the model, which gets each request by itself",
        )
