"""Valid repositories to mutate: one for every scheduler, and each config of this repository on its own."""

from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tools.cpu_config import derive_cpu_config
from tools.repository import model_names, read_config

IO = """
input [ { name: "INPUT__0" data_type: TYPE_FP32 dims: [ 3, 4 ] } ]
output [ { name: "OUTPUT__0" data_type: TYPE_FP32 dims: [ 2 ] label_filename: "labels.txt" } ]
"""
DEFAULT = 'backend: "pytorch"' + IO + "instance_group [ { kind: KIND_CPU count: 2 } ]"
DYNAMIC = (
    'backend: "onnxruntime" max_batch_size: 8'
    + IO
    + """
dynamic_batching {
  preferred_batch_size: [ 4, 8 ]
  max_queue_delay_microseconds: 100
  priority_levels: 2
  default_priority_level: 1
  default_queue_policy { timeout_action: REJECT default_timeout_microseconds: 1000 max_queue_size: 16 }
  priority_queue_policy { key: 2 value { timeout_action: DELAY default_timeout_microseconds: 10 } }
}
version_policy { latest { num_versions: 2 } }
model_warmup [
  { name: "one" batch_size: 1 inputs { key: "INPUT__0" value { data_type: TYPE_FP32 dims: [ 3, 4 ] zero_data: true } } }
]
response_cache { enable: true }
optimization { input_pinned_memory { enable: false } priority: PRIORITY_MAX }
"""
)
ORDERED = (
    'backend: "alpha" max_batch_size: 8'
    + IO
    + """
dynamic_batching {
  preserve_ordering: true
  default_queue_policy { timeout_action: REJECT default_timeout_microseconds: 9 }
}
batch_input { kind: BATCH_ACCUMULATED_ELEMENT_COUNT target_name: "COUNT" data_type: TYPE_FP32 source_input: "INPUT__0" }
batch_output { kind: BATCH_SCATTER_WITH_INPUT_SHAPE target_name: "OUTPUT__0" source_input: "INPUT__0" }
"""
)
RESHAPED = """backend: "python" max_batch_size: 4
input [
  { name: "A" data_type: TYPE_UINT8 format: FORMAT_NHWC dims: [ -1, -1, 3 ] },
  { name: "B" data_type: TYPE_INT64 dims: [ 1 ] reshape { shape: [ ] } },
  { name: "C" data_type: TYPE_FP16 dims: [ 2, -1, 6 ] reshape { shape: [ 1, 2, -1, 2, 3 ] } optional: true }
]
output [ { name: "D" data_type: TYPE_STRING dims: [ 4 ] reshape { shape: [ 2, 2 ] } } ]
model_transaction_policy { decoupled: true }
version_policy { specific { versions: [ 1 ] } }
parameters { key: "FORCE_CPU_ONLY_INPUT_TENSORS" value { string_value: "yes" } }
"""
PLAN = """platform: "tensorrt_plan" max_batch_size: 4
input [ { name: "A" data_type: TYPE_FP16 dims: [ 8, 2, 2 ] is_non_linear_format_io: true },
        { name: "S" data_type: TYPE_INT32 dims: [ 2 ] is_shape_tensor: true } ]
output [ { name: "B" data_type: TYPE_FP16 dims: [ 8 ] } ]
instance_group [ { kind: KIND_CPU profile: [ "0", "1" ] } ]
"""
CONTROLS = """
  control_input [
    { name: "START" control [ { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } ] },
    { name: "END" control [ { kind: CONTROL_SEQUENCE_END int32_false_true: [ 0, 1 ] } ] },
    { name: "READY" control [ { kind: CONTROL_SEQUENCE_READY bool_false_true: [ false, true ] } ] },
    { name: "ID" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } ] }
  ]
  state [
    {
      input_name: "IN" output_name: "OUT" data_type: TYPE_FP32 dims: [ -1, 2 ]
      initial_state: { name: "zeros" data_type: TYPE_FP32 dims: [ 3, 2 ] zero_data: true }
    },
    { input_name: "IN2" output_name: "OUT2" data_type: TYPE_INT32 dims: [ 1 ] }
  ]
"""
DIRECT = (
    'backend: "alpha" max_batch_size: 4'
    + IO
    + "sequence_batching { max_sequence_idle_microseconds: 5000000 direct { minimum_slot_utilization: 0.5 }"
    + CONTROLS
    + "}"
)
OLDEST = (
    'backend: "alpha" max_batch_size: 4'
    + IO
    + "sequence_batching { oldest { max_candidate_sequences: 8 preferred_batch_size: [ 2, 4 ] }"
    + CONTROLS
    + "}"
)
PREPARE = """backend: "alpha" max_batch_size: 8
input [ { name: "RAW" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] },
        { name: "HINT" data_type: TYPE_FP32 dims: [ 1 ] optional: true } ]
output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 3, 4 ] }, { name: "SIZE" data_type: TYPE_INT32 dims: [ 2 ] } ]
"""
CLASSIFY = """backend: "alpha" max_batch_size: 8 version_policy { all { } }
input [ { name: "IN" data_type: TYPE_FP32 dims: [ 3, 4 ] } ]
output [ { name: "SCORES" data_type: TYPE_FP32 dims: [ 10 ] } ]
"""
JOIN = """backend: "alpha" max_batch_size: 0
input [ { name: "S" data_type: TYPE_FP32 dims: [ -1, 10 ] }, { name: "Z" data_type: TYPE_INT32 dims: [ -1, 2 ] } ]
output [ { name: "ANSWER" data_type: TYPE_STRING dims: [ -1, 1 ] } ]
"""
ENSEMBLE = """platform: "ensemble" max_batch_size: 8
input [ { name: "IMAGE" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] } ]
output [ { name: "ANSWER" data_type: TYPE_STRING dims: [ 1 ] }, { name: "scores" data_type: TYPE_FP32 dims: [ 10 ] } ]
ensemble_scheduling { step [
  { model_name: "prepare" model_version: -1 input_map { key: "RAW" value: "IMAGE" }
    output_map { key: "OUT" value: "pixels" } output_map { key: "SIZE" value: "size" } },
  { model_name: "classify" model_version: 1 input_map { key: "IN" value: "pixels" }
    output_map { key: "SCORES" value: "scores" } },
  { model_name: "join" model_version: -1 input_map { key: "S" value: "scores" } input_map { key: "Z" value: "size" }
    output_map { key: "ANSWER" value: "ANSWER" } }
] }
"""
OUTER = """platform: "ensemble" max_batch_size: 4
input [ { name: "FILE" data_type: TYPE_UINT8 dims: [ -1, -1, -1 ] } ]
output [ { name: "TEXT" data_type: TYPE_STRING dims: [ 1 ] } ]
ensemble_scheduling { step [
  { model_name: "model" model_version: -1 input_map { key: "IMAGE" value: "FILE" }
    output_map { key: "ANSWER" value: "TEXT" } }
] }
"""
STREAM = PREPARE + "model_transaction_policy { decoupled: true }"


@dataclass(frozen=True)
class Seed:
    """A repository: the configs of its models, and the name of the model to load."""

    target: str
    configs: Mapping[str, ModelConfig]


def seed(target: str, **texts: str) -> Seed:
    """Parse a seed from configs without names."""
    return Seed(
        target, {name: text_format.Parse(f'name: "{name}" {text}', ModelConfig()) for name, text in texts.items()}
    )


def written_by_hand() -> list[Seed]:
    """Seeds for every scheduler, and for features of some backends only."""
    alone = [DEFAULT, DYNAMIC, ORDERED, RESHAPED, PLAN, DIRECT, OLDEST]
    members = {"classify": CLASSIFY, "join": JOIN}
    return [
        *(seed("model", model=text) for text in alone),
        seed("model", model=ENSEMBLE, prepare=PREPARE, **members),
        seed("model", model=ENSEMBLE, prepare=STREAM, **members),
        seed("outer", model=ENSEMBLE, outer=OUTER, prepare=PREPARE, **members),
    ]


def of_this_repository() -> list[Seed]:
    """Each model of this repository, for the CPU, with the models of its steps."""
    configs = {name: derive_cpu_config(read_config(name)) for name in model_names()}

    def with_members(name: str) -> dict[str, ModelConfig]:
        members = {step.model_name for step in configs[name].ensemble_scheduling.step}
        return {name: configs[name]} | {key: value for member in members for key, value in with_members(member).items()}

    return [Seed(name, with_members(name)) for name in configs]
