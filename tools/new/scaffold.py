"""The text of a new model's files: config.pbtxt with a comment next to each number, and the recipe that rebuilds it.

`tools.new` writes them once; afterwards people maintain them.
"""

import json
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from clients.contract import TensorSpec
from clients.installation import PACKAGE, as_typed
from tools.recipes import Imported

LABELS = "labels.txt"
_BATCHING = """\
# Requests that arrive while a batch is computed are served together in the next one.
dynamic_batching {
  # Waiting for more requests delays each of them; measure before you raise it.
  max_queue_delay_microseconds: 0
}
"""
_GPU_ONLY = """\
# Production must not silently fall back to the CPU. configs/cpu.pbtxt, derived from this file, serves
# hosts without a GPU (tritonserver --model-config-name=cpu).
"""
_RUNTIME = """\
# Only the newest version is served; older ones stay on disk for a rollback.
version_policy { latest { num_versions: 1 } }

# One thread per request: on busy cores, threads mostly wait for each other. A large network that has a CPU host to
# itself benefits from more.
parameters { key: "INTRA_OP_THREAD_COUNT" value { string_value: "1" } }
parameters { key: "INTER_OP_THREAD_COUNT" value { string_value: "1" } }
"""


@dataclass(frozen=True)
class Design:
    """What a new model's config.pbtxt says."""

    model: str
    title: str  # What the model is, in a few words.
    max_batch_size: int  # 0 for no batching.
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    warmup: Mapping[str, tuple[int, ...]]  # Dims of a warm-up request by input, without -1.
    warmup_files: tuple[str, ...] = ()  # Inputs that the network does not take as zeros.
    proven: Mapping[str, str] = field(default_factory=dict)  # By input: what it was proven with, as a sentence.
    why_unbatched: str = ""
    squeezed: tuple[str, ...] = ()  # Inputs with a dimension of 1 that `forward` does not take.
    labelled: str | None = None  # The output whose classes labels.txt names.
    mean: tuple[float, ...] = ()  # Of pixels in 0 to 1, per channel, for a model of images.
    std: tuple[float, ...] = ()
    cpu_only: bool = False  # Whether its operators do not exist on a GPU.


def config(design: Design) -> str:
    """Write config.pbtxt."""
    sections = [_head(design), _tensors(design), _BATCHING if design.max_batch_size else "", _instances(design)]
    sections += [_warmup(design), _RUNTIME, _image_parameters(design) if design.mean else ""]
    return "\n".join(filter(None, sections))


def _head(design: Design) -> str:
    why = f"No batching: {design.why_unbatched or 'as `--max-batch-size 0` asked'}."
    if design.max_batch_size:
        why = (
            "The largest batch that Triton forms and that the file was proven with. Raise it while doubling a "
            "batch takes less than twice the time."
        )
    return f"""\
{_comment(f"{design.model}: {design.title}.")}name: {_quote(design.model)}

# Triton loads `backend`; `platform` is its older name, kept for older servers and tools.
backend: "pytorch"
platform: "pytorch_libtorch"

{_comment(why)}max_batch_size: {design.max_batch_size}
"""


def _tensors(design: Design) -> str:
    def message(spec: TensorSpec) -> list[str]:
        lines = [f"name: {_quote(spec.name)}", f"data_type: TYPE_{spec.datatype}"]
        if -1 in spec.dims:
            lines.append("# -1 may differ between requests; only requests of one shape share a batch.")
        if spec.name in design.proven:
            lines += [f"# {line}" for line in textwrap.wrap(design.proven[spec.name], 112)]
        if spec.name in design.squeezed:
            lines.append("# The network takes no such dimension, but Triton needs one.")
        lines.append(f"dims: {_dims(spec.dims)}")
        return [*lines, f"label_filename: {_quote(LABELS)}"] if spec.name == design.labelled else lines

    return (
        "# The names are those of forward's parameters.\n"
        + _repeated("input", map(message, design.inputs))
        + "# The number after `__` is the place in the tuple that the file's forward returns.\n"
        + _repeated("output", map(message, design.outputs))
    )


def _instances(design: Design) -> str:
    why = "# Quantized operators exist only for the CPU.\n" if design.cpu_only else _GPU_ONLY
    kind = f"kind: KIND_{'CPU' if design.cpu_only else 'GPU'}"
    return why + _repeated("instance_group", [[kind, "# Each instance has its own copy of the weights.", "count: 1"]])


def _warmup(design: Design) -> str:
    data = {name: f"input_data_file: {_quote(name)}" for name in design.warmup_files}
    inputs = [
        f"inputs {{ key: {_quote(spec.name)} value {{ data_type: TYPE_{spec.datatype} "
        f"dims: {_dims(design.warmup[spec.name])} {data.get(spec.name, 'zero_data: true')} }} }}"
        for spec in design.inputs
    ]
    requests = [['name: "single"', "batch_size: 1", *inputs]]
    if design.max_batch_size > 1:
        requests.append(['name: "full_batch"', f"batch_size: {design.max_batch_size}", *inputs])
    why = "# The first requests compile and allocate: let Triton do that before it reports ready.\n"
    if data:
        why += "# Zeros are no input of this network: the files in warmup/ hold a row as it takes it.\n"
    return why + _repeated("model_warmup", requests)


def _image_parameters(design: Design) -> str:
    mean, std = (",".join(map(str, numbers)) for numbers in (design.mean, design.std))
    return f"""\
# How pixels become the input: (pixel / 255 - mean) / std, per channel. Clients read this.
parameters {{ key: "IMAGE_MEAN" value {{ string_value: "{mean}" }} }}
parameters {{ key: "IMAGE_STD" value {{ string_value: "{std}" }} }}
"""


def _repeated(name: str, messages: Iterable[list[str]]) -> str:
    blocks = ("  {\n" + "".join(f"    {line}\n" for line in lines) + "  }" for lines in messages)
    return f"{name} [\n" + ",\n".join(blocks) + "\n]\n"


def _dims(sizes: Iterable[int]) -> str:
    return f"[ {', '.join(map(str, sizes))} ]"


def _comment(text: str) -> str:
    lines = textwrap.wrap(text, 118, break_long_words=False, break_on_hyphens=False)
    return "".join(f"# {line}\n" for line in lines)


def _quote(text: str) -> str:
    # A literal of the text format and of Python.
    return json.dumps(text, ensure_ascii=False)


def recipe(model: str, title: str, imported: Imported) -> str:
    """Write `tools/recipes/<model>.py`."""
    values = {field.name: getattr(imported, field.name) for field in fields(Imported)}
    changed = {name: value for name, value in values.items() if value != getattr(Imported(), name)}
    arguments = "".join(f"    {name}={_literal(value)},\n" for name, value in changed.items())
    return f'''"""{model}: {title}.

{as_typed("tools.export")} {model}      # again, after its source or checkpoint has changed
"""

from {PACKAGE}tools.recipes import Imported

RECIPE = Imported(
{arguments})
'''


def _literal(value: Any) -> str:
    # As the formatter wants it.
    if isinstance(value, str):
        return _quote(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_literal(key)}: {_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        items = ", ".join(map(_literal, value))
        return f"[{items}]" if isinstance(value, list) else f"({items}{',' if len(value) == 1 else ''})"
    return repr(value)
