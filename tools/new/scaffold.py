"""The text of a new model's files: config.pbtxt with a comment beside each number, and the recipe that makes it again.

`tools.new` writes them once; afterwards they belong to people.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from clients.contract import TensorSpec
from tools.recipes import Imported

LABELS = "labels.txt"


@dataclass(frozen=True)
class Design:
    """All that a new model's config.pbtxt says.

    Attributes:
        title: what it is, in a few words.
        max_batch_size: 0 for none.
        why_unbatched: the reason for that 0.
        warmup: dims of one input each, without -1.
        squeezed: inputs with a dimension of 1 that `forward` does not see.
        labelled: the output whose classes labels.txt names.
        mean, std: of pixels in 0 to 1, per channel, for a model of images.
        cpu_only: whether its operators do not exist on a GPU.
    """

    model: str
    title: str
    max_batch_size: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    warmup: Mapping[str, tuple[int, ...]]
    why_unbatched: str = ""
    squeezed: tuple[str, ...] = ()
    labelled: str | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    cpu_only: bool = False


def config(design: Design) -> str:
    """The text of config.pbtxt."""
    parts = [head(design), tensors(design), batching(design), instances(design), warmups(design), FOOT, images(design)]
    return "\n".join(filter(None, parts))


def head(design: Design) -> str:
    """Name, backend and batch size."""
    if design.max_batch_size:
        why = (
            "# The largest batch that Triton forms, and that the file was proven with. It pays to raise it while a\n"
            "# forward of twice the rows takes less than twice the time.\n"
        )
    else:
        why = comment(f"Without batches: {design.why_unbatched or 'as `--max-batch-size 0` asked'}.")
    return (
        f"{comment(f'{design.model}: {design.title}.')}"
        f"name: {quoted(design.model)}\n\n"
        "# `backend` is what Triton loads; `platform` is its older name, kept so that older servers and tools agree.\n"
        'backend: "pytorch"\nplatform: "pytorch_libtorch"\n\n'
        f"{why}max_batch_size: {design.max_batch_size}\n"
    )


def tensors(design: Design) -> str:
    """Inputs and outputs."""
    return (
        "# The names are those of forward's arguments.\n"
        + listing("input", [tensor(spec, design) for spec in design.inputs])
        + "# The number after `__` is the place in what the file's forward returns.\n"
        + listing("output", [tensor(spec, design) for spec in design.outputs])
    )


def tensor(spec: TensorSpec, design: Design) -> str:
    """One input or output."""
    lines = [f"name: {quoted(spec.name)}", f"data_type: TYPE_{spec.datatype}"]
    if -1 in spec.dims:
        lines.append("# -1 may be another size in each request; requests of one shape share a batch.")
    if spec.name in design.squeezed:
        lines.append("# The network itself takes no such dimension, but Triton needs one.")
    lines.append(f"dims: {dims(spec.dims)}")
    if spec.name == design.labelled:
        lines.append(f"label_filename: {quoted(LABELS)}")
    return block(lines)


def batching(design: Design) -> str:
    """The dynamic batcher, for a model that takes batches."""
    if not design.max_batch_size:
        return ""
    return (
        "# Requests that arrive while a forward runs are served together in the next one.\n"
        "dynamic_batching {\n"
        "  # A wait for more requests costs each of them; measure before you raise it.\n"
        "  max_queue_delay_microseconds: 0\n"
        "}\n"
    )


def instances(design: Design) -> str:
    """Where it runs."""
    if design.cpu_only:
        why = "# Quantized operators exist for the CPU only.\n"
    else:
        why = (
            "# Production must not fall back to the CPU in silence. configs/cpu.pbtxt, derived from this file,\n"
            "# serves hosts without a GPU (tritonserver --model-config-name=cpu).\n"
        )
    kind = f"kind: KIND_{'CPU' if design.cpu_only else 'GPU'}"
    copies = "# Each instance keeps its own copy of the weights."
    return why + listing("instance_group", [block([kind, copies, "count: 1"])])


def warmups(design: Design) -> str:
    """Requests that Triton makes before it reports ready."""
    batches = [("single", 1), ("full_batch", design.max_batch_size)] if design.max_batch_size > 1 else [("single", 1)]
    inputs = [
        f"inputs {{ key: {quoted(spec.name)} value {{ data_type: TYPE_{spec.datatype} "
        f"dims: {dims(design.warmup[spec.name])} zero_data: true }} }}"
        for spec in design.inputs
    ]
    samples = [
        block([f"name: {quoted(name)}", *([f"batch_size: {size}"] if design.max_batch_size else []), *inputs])
        for name, size in batches
    ]
    why = "# The first forwards compile and allocate: let Triton pay for that before it reports ready.\n"
    return why + listing("model_warmup", samples)


FOOT = """\
# Only the newest version serves; older ones stay on disk for a way back.
version_policy { latest { num_versions: 1 } }

# One thread per forward: more of them on busy cores wait for each other. A large network that is alone on a CPU host
# wants more.
parameters { key: "INTRA_OP_THREAD_COUNT" value { string_value: "1" } }
parameters { key: "INTER_OP_THREAD_COUNT" value { string_value: "1" } }
"""


def images(design: Design) -> str:
    """How pixels become the input, for clients that send pictures."""
    if not design.mean:
        return ""
    pairs = {"IMAGE_MEAN": design.mean, "IMAGE_STD": design.std}
    return "# How pixels become the input: (pixel / 255 - mean) / std, per channel. Clients read it here.\n" + "".join(
        f"parameters {{ key: {quoted(key)} value {{ string_value: {quoted(','.join(map(str, numbers)))} }} }}\n"
        for key, numbers in pairs.items()
    )


def listing(name: str, blocks: Sequence[str]) -> str:
    """A repeated field."""
    return f"{name} [\n" + ",\n".join(blocks) + "\n]\n"


def block(lines: Sequence[str]) -> str:
    """One message of a repeated field."""
    return "  {\n" + "".join(f"    {line}\n" for line in lines) + "  }"


def dims(sizes: Sequence[int]) -> str:
    """Sizes as the text format has them."""
    return f"[ {', '.join(map(str, sizes))} ]"


def comment(text: str) -> str:
    """A text as comment lines of at most 120 characters."""
    lines, words = [""], text.split()
    for word in words:
        if len(lines[-1]) + len(word) > 116:
            lines.append("")
        lines[-1] += f" {word}"
    return "".join(f"#{line}\n" for line in lines)


def quoted(text: str) -> str:
    """A text as a literal of the text format and of Python."""
    return json.dumps(text, ensure_ascii=False)


def recipe(model: str, title: str, imported: Imported) -> str:
    """The text of `tools/recipes/<model>.py`."""
    plain = Imported()
    changed = [each.name for each in fields(Imported) if getattr(imported, each.name) != getattr(plain, each.name)]
    body = "".join(f"    {name}={literal(getattr(imported, name))},\n" for name in changed)
    return (
        f'"""{model}: {title}.\n\n'
        f'python -m tools.export {model}      # again, after a change of what it is made from\n"""'
        f"\n\nfrom tools.recipes import Imported\n\nRECIPE = Imported(\n{body})\n"
    )


def literal(value: Any) -> str:
    """A value from the command line as Python, quoted as the formatter wants it."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{literal(key)}: {literal(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        inside = ", ".join(map(literal, value))
        return f"[{inside}]" if isinstance(value, list) else f"({inside}{',' if len(value) == 1 else ''})"
    return repr(value)
