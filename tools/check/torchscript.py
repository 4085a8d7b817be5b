"""TorchScript files against their configs, without torch: arguments, results and operators of `forward`."""

from collections.abc import Iterator
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from tools.backends.pytorch.binding import Argument, BindingError, Output, bind_inputs, bind_outputs, indices
from tools.check.archive import Archive, ArchiveError, read_archive
from tools.check.finding import Finding, Place, Rule
from tools.check.layout import file_name
from tools.check.served import FILES, Model
from tools.model_files import BUILT_IN
from tools.repository import as_triton_json

NO_ARCHIVE = Rule("torchscript-file", "A model file of the pytorch backend is not TorchScript", "backend")
FORMAT = Rule("torchscript-format", "A TorchScript file's format is newer than libtorch can read", "backend")
INPUTS = Rule("torchscript-inputs", "The config's inputs do not match the arguments of forward", "backend")
ARGUMENT = Rule(
    "torchscript-argument",
    "An argument of forward has a type that its input cannot become: every request fails",
    level="error",
)
OUTPUTS = Rule(
    "torchscript-outputs", "An output's index is beyond what forward returns: every request fails", level="error"
)
RESULT = Rule(
    "torchscript-result",
    "An output is neither a tensor nor a List[str] as configured, but a dict, a list, a number: every request fails",
    level="error",
)
QUANTIZED = Rule(
    "quantized-on-gpu", "Quantized operators, which run on CPUs only, in a model whose instances may run on a GPU"
)
OPERATOR = Rule(
    "torchscript-operator", "TorchScript needs an operator of another library, which only some servers have", "server"
)
CUDA = Rule("cuda-on-cpu", "TorchScript moves tensors to a GPU, in a model whose instances run on a CPU")
RULES = (NO_ARCHIVE, FORMAT, INPUTS, ARGUMENT, OUTPUTS, RESULT, QUANTIZED, CUDA, OPERATOR)

# caffe2/serialize/versions.h of PyTorch: kMaxSupportedFileFormatVersion.
_NEWEST_FORMAT = 10


def arguments_of(model: Model) -> tuple[Argument, ...]:
    """The arguments of forward in the newest version; empty if its file is missing or unreadable."""
    for version in model.wanted[-1:]:
        file = model.folder / str(version) / file_name(model)
        try:
            return read_archive(file).arguments if file.is_file() else ()
        except ArchiveError:
            return ()
    return ()


def check(model: Model) -> Iterator[Finding]:
    """Yield all findings about a model's TorchScript files and its config."""
    if model.config.backend != "pytorch" or model.config.platform != FILES["pytorch"][1]:
        return
    for version in model.wanted:
        file = model.folder / str(version) / file_name(model)
        if not file.is_file():
            continue
        try:
            archive = read_archive(file)
        except ArchiveError as error:
            remedy = "create it with torch.jit.save(torch.jit.script(…)) or torch.jit.trace"
            yield NO_ARCHIVE.at(Place(file), found=str(error), expected="TorchScript", remedy=remedy)
            continue
        yield from _check_archive(model, archive, Place(file))


def _check_archive(model: Model, archive: Archive, place: Place) -> Iterator[Finding]:
    if archive.version > _NEWEST_FORMAT:
        yield FORMAT.at(
            place,
            found=f"format {archive.version}",
            expected=f"at most {_NEWEST_FORMAT}",
            remedy="save it with the server's release of torch",
        )
    yield from _check_inputs(model, archive, place)
    yield from _check_outputs(model, archive)
    yield from _check_operators(model, archive)


def bound_config(config: ModelConfig) -> dict[str, Any]:
    """A config as JSON in which implicit states bind to arguments as control tensors do, by their index."""
    document = as_triton_json(config)
    states = document.get("sequence_batching", {}).pop("state", [])
    for state in states:
        document["sequence_batching"].setdefault("control_input", []).append({"name": state["input_name"]})
    return document


def _check_inputs(model: Model, archive: Archive, place: Place) -> Iterator[Finding]:
    pairs = zip(archive.arguments, archive.types, strict=True)
    forward = f"forward({', '.join(f'{argument.name}: {kind}' for argument, kind in pairs)})"
    try:
        bound = bind_inputs(bound_config(model.config), archive.arguments)
    except BindingError as error:
        yield INPUTS.at(
            model.place("input"),
            found=str(error),
            expected=f"inputs for {forward} of {place.file.parent.name}/{place.file.name}",
            remedy="name each input after its argument, or <name>__<index>, one per argument",
        )
        return
    wanted = ["List[str]" if name in bound.strings else "Tensor" for name in bound.names]
    if bound.as_dict:
        wanted = ["a List[str]"] if bound.strings else ["Dict[str, Tensor]"]
    for argument, kind, expected in zip(archive.arguments, archive.types, wanted, strict=True):
        if kind != expected:
            yield ARGUMENT.at(
                model.place("input"),
                found=f"argument '{argument.name}' of {forward} is {kind}",
                expected=f"{expected}, which is what the backend passes",
                remedy="change forward: one Tensor for each input, a List[str] for TYPE_STRING; make tuples and lists "
                "within it",
            )


def _check_outputs(model: Model, archive: Archive) -> Iterator[Finding]:
    if archive.results is None:
        return
    returned = f"forward returns {', '.join(archive.results) or 'nothing'}"
    for place, output in _outputs_of(model):
        wanted = "Tensor" if output.dtype else "List[str]"
        if output.index >= len(archive.results):
            yield OUTPUTS.at(
                place,
                found=f"output '{output.name}' has index {output.index}",
                expected=f"less than {len(archive.results)}, because {returned}",
                remedy="the index after '__' is the position in what forward returns",
            )
        elif archive.results[output.index] not in (wanted, f"Optional[{wanted}]", "Any"):
            yield RESULT.at(
                place,
                found=f"output '{output.name}' is {archive.results[output.index]}",
                expected=f"{wanted}; {returned}",
                remedy="return a tensor, a List[str] for TYPE_STRING, or a flat tuple of them; tools.new makes one of "
                "dicts and nested tuples",
            )


def _outputs_of(model: Model) -> Iterator[tuple[Place, Output]]:
    """The outputs, and those that Triton keeps as a sequence's state."""
    for number, output in enumerate(bind_outputs(as_triton_json(model.config))):
        yield model.place("output", number, "name"), output
    for number, state in enumerate(model.config.sequence_batching.state):
        (index,) = indices([state.output_name]) or (0,)
        place = model.place("sequence_batching", "state", number, "output_name")
        yield place, Output(state.output_name, index, "a state's")


def _check_operators(model: Model, archive: Archive) -> Iterator[Finding]:
    quantized = sorted(name for name in archive.operators if name.startswith("quantized."))
    groups = model.config.instance_group
    if quantized and (not groups or any(group.kind != ModelInstanceGroup.KIND_CPU for group in groups)):
        yield QUANTIZED.at(
            model.place("instance_group"),
            found=f"{quantized[0]} in instances that may run on a GPU",
            expected="KIND_CPU",
            remedy="set kind: KIND_CPU in all instance groups",
        )
    gpus = sorted({device for device in archive.devices if device.startswith("cuda")} | archive.operators & {"cuda"})
    if gpus and any(group.kind == ModelInstanceGroup.KIND_CPU for group in groups):
        yield CUDA.at(
            model.place("instance_group"),
            found=f"{gpus[0]} in the code of a model of KIND_CPU",
            expected="code that follows its input's device",
            remedy="export it with device=x.device in place of the GPU, or set KIND_GPU",
        )
    for name in sorted(name for name in archive.operators if name.partition(".")[0] not in BUILT_IN and "." in name):
        yield OPERATOR.at(
            model.place(),
            found=f"the file needs {name.replace('.', '::')}",
            expected="operators of torch",
            remedy="serve it where that library is loaded (NVIDIA's container has torchvision's), or export it without",
        )
