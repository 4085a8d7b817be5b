"""What a TorchScript file declares, read from its zip archive without torch.

The archive holds code as text: the saved class, its `forward` with the types of arguments and results, and the
operators that it calls. The layout is documented at
https://github.com/pytorch/pytorch/blob/main/torch/csrc/jit/docs/serialization.md
"""

import pickletools
import re
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tools.backends.pytorch.binding import Argument
from tools.model_files import kind_of

_OPERATOR = re.compile(r"\bops\.(\w+)\.(\w+)|\btorch\.(\w+)\(")
# The type of an argument in the source, up to a bracket → torch's name for its kind.
_KINDS = {
    "Tensor": "TensorType",
    "List": "ListType",
    "Dict": "DictType",
    "Optional": "OptionalType",
    "str": "StringType",
}
_KINDS |= {"int": "IntType", "float": "FloatType", "bool": "BoolType", "Tuple": "TupleType"}


class ArchiveError(ValueError):
    """The file is not TorchScript; the message says what it appears to be."""


@dataclass(frozen=True)
class Archive:
    """What a TorchScript file declares.

    Attributes:
        version: of the file format.
        arguments: of `forward`, without self.
        types: of the arguments, as the code spells them ("Tensor", "List[str]").
        results: the types of what `forward` returns, one per index of an output; None if its type does not say.
        operators: names such as "conv2d" and "quantized.linear".
        devices: that the code names, such as "cuda:0".
    """

    version: int
    arguments: tuple[Argument, ...]
    types: tuple[str, ...]
    results: tuple[str, ...] | None
    operators: frozenset[str]
    devices: frozenset[str]


def read_archive(file: Path) -> Archive:
    """Read a TorchScript file.

    Raises:
        ArchiveError: the file is something else.
    """
    return _read_unchanged(file, file.stat().st_mtime_ns)


@cache
def _read_unchanged(file: Path, changed: int) -> Archive:
    del changed  # Only part of the cache key: a file is read once for all config names that it is served under.
    kind = kind_of(file)
    if not kind.is_torchscript:
        raise ArchiveError(kind.title)
    with zipfile.ZipFile(file) as archive:
        names = {name.partition("/")[2]: name for name in archive.namelist()}
        code = {name: archive.read(full).decode() for name, full in names.items() if name.endswith(".py")}
        arguments, results = _forward_of(_saved_class(archive.read(names["data.pkl"])), code)
        version = archive.read(names["version"]).decode().strip() if "version" in names else "0"
    operators = {".".join(filter(None, parts)) for text in code.values() for parts in _OPERATOR.findall(text)}
    parsed = [_parse_argument(text) for text in arguments]
    types = tuple(kind for _, kind in parsed)
    devices = {device for text in code.values() for device in re.findall(r'torch\.device\("(\S+?)"\)', text)}
    declared = tuple(argument for argument, _ in parsed)
    return Archive(int(version), declared, types, results, frozenset(operators), frozenset(devices))


def _saved_class(pickle: bytes) -> str:
    for operation, argument, _ in pickletools.genops(pickle):
        if operation.name == "GLOBAL" and str(argument).startswith("__torch__"):
            return str(argument).replace(" ", ".")
    raise ArchiveError("an archive without a module")


def _forward_of(name: str, code: dict[str, str]) -> tuple[list[str], tuple[str, ...] | None]:
    """The arguments of `forward`, with their types, and the types of its results."""
    short, body = name.rpartition(".")[2], _class_of(name, "Module", code)
    head = re.search(r"  def forward\((.*?)\) -> ([^\n]+):\n", body, re.DOTALL)
    if head is None:
        raise ArchiveError(f"a module ({short}) without a forward method")
    _, *arguments = _split_items(head[1])
    return arguments, _results_of(head[2], code)


def _class_of(name: str, base: str, code: dict[str, str]) -> str:
    """The body of a class; empty if there is none."""
    module, _, short = name.rpartition(".")
    text = code.get(f"code/{module.replace('.', '/')}.py", "")
    match = re.search(rf"^class {re.escape(short)}\({base}\):(.*?)(?=^class |\Z)", text, re.DOTALL | re.MULTILINE)
    return match[1] if match else ""


def _parse_argument(text: str) -> tuple[Argument, str]:
    """Parse an argument such as `x: Optional[Tensor]=None`; also return its type."""
    name, _, rest = text.partition(":")
    kind = rest.partition("=")[0].strip()
    return Argument(name.strip(), _KINDS.get(kind.partition("[")[0], kind)), kind


def _split_items(text: str) -> list[str]:
    """Split at commas outside brackets."""
    items, depth = [""], 0
    for character in text:
        depth += (character in "[(") - (character in "])")
        if character == "," and depth == 0:
            items.append("")
        else:
            items[-1] += character
    return [item.strip() for item in items if item.strip()]


def _results_of(returned: str, code: dict[str, str]) -> tuple[str, ...] | None:
    if returned.startswith(("Optional[Tuple[", "Union[", "Any")):
        return None
    if returned == "Tuple[()]":
        return ()
    if returned.startswith("Tuple["):
        return tuple(_split_items(returned.removeprefix("Tuple[").removesuffix("]")))
    fields = re.findall(r"^  \w+ : (.+)$", _class_of(returned, "NamedTuple", code), re.MULTILINE)
    return tuple(fields) or (returned,)
