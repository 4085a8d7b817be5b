"""TorchScript files against their configs, without torch: arguments, results and operators of `forward`."""

from collections.abc import Iterator

from tritonclient.grpc.model_config_pb2 import ModelInstanceGroup

from tools.backends.pytorch.binding import Argument, BindingError, bind_inputs, bind_outputs
from tools.check.archive import Archive, ArchiveError, read_archive
from tools.check.finding import Finding, Place, Rule
from tools.check.layout import file_name
from tools.check.served import FILES, Model
from tools.repository import as_triton_json

NO_ARCHIVE = Rule("torchscript-file", "A model file of the pytorch backend is not TorchScript", "backend")
FORMAT = Rule("torchscript-format", "A TorchScript file's format is newer than libtorch can read", "backend")
INPUTS = Rule("torchscript-inputs", "The config's inputs do not match the arguments of forward", "backend")
OUTPUTS = Rule(
    "torchscript-outputs", "An output's index is beyond what forward returns: every request fails", level="error"
)
QUANTIZED = Rule(
    "quantized-on-gpu", "Quantized operators, which run on CPUs only, in a model whose instances may run on a GPU"
)
RULES = (NO_ARCHIVE, FORMAT, INPUTS, OUTPUTS, QUANTIZED)

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
    config = as_triton_json(model.config)
    forward = ", ".join(f"{argument.name}: {argument.kind.removesuffix('Type')}" for argument in archive.arguments)
    if not model.config.sequence_batching.state:
        try:
            bind_inputs(config, archive.arguments)
        except BindingError as error:
            yield INPUTS.at(
                model.place("input"),
                found=str(error),
                expected=f"inputs for forward({forward}) of {place.file.parent.name}/{place.file.name}",
                remedy="name each input after its argument, or <name>__<index>, one per argument",
            )
    yield from _check_outputs(model, archive)
    yield from _check_quantized(model, archive)


def _check_outputs(model: Model, archive: Archive) -> Iterator[Finding]:
    for number, output in enumerate(bind_outputs(as_triton_json(model.config))):
        if archive.results is not None and output.index >= archive.results:
            yield OUTPUTS.at(
                model.place("output", number, "name"),
                found=f"output '{output.name}' has index {output.index}",
                expected=f"0 to {archive.results - 1}, because forward returns {archive.results}",
                remedy="the index after '__' is the position in what forward returns",
            )


def _check_quantized(model: Model, archive: Archive) -> Iterator[Finding]:
    quantized = sorted(name for name in archive.operators if name.startswith("quantized."))
    groups = model.config.instance_group
    if quantized and (not groups or any(group.kind != ModelInstanceGroup.KIND_CPU for group in groups)):
        yield QUANTIZED.at(
            model.place("instance_group"),
            found=f"{quantized[0]} in instances that may run on a GPU",
            expected="KIND_CPU",
            remedy="set kind: KIND_CPU in all instance groups",
        )
