"""What a TorchScript file says of itself, read from the zip archive that it is, without torch.

The code in it is text: the class that is saved, its `forward` with the types of arguments and results, and operators
that are called. The layout is documented at
https://github.com/pytorch/pytorch/blob/main/torch/csrc/jit/docs/serialization.md
"""

import pickletools
import re
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tools.backends.pytorch.binding import Argument

OPERATOR = re.compile(r"\bops\.(\w+)\.(\w+)|\btorch\.(\w+)\(")
# The type of an argument as it is written, up to a bracket → torch's name for its kind.
KINDS = {
    "Tensor": "TensorType",
    "List": "ListType",
    "Dict": "DictType",
    "Optional": "OptionalType",
    "str": "StringType",
}
KINDS |= {"int": "IntType", "float": "FloatType", "bool": "BoolType", "Tuple": "TupleType"}


class ArchiveError(ValueError):
    """The file is no TorchScript; the message says what it seems to be."""


@dataclass(frozen=True)
class Archive:
    """What a TorchScript file says of itself.

    Attributes:
        version: of the file format.
        arguments: of `forward`, without self.
        results: how many tensors `forward` returns; None if its type does not tell.
        operators: names such as "conv2d" and "quantized.linear".
    """

    version: int
    arguments: tuple[Argument, ...]
    results: int | None
    operators: frozenset[str]


def read_archive(file: Path) -> Archive:
    """Read a TorchScript file.

    Raises:
        ArchiveError: it is something else.
    """
    return read_unchanged(file, file.stat().st_mtime_ns)


@cache
def read_unchanged(file: Path, changed: int) -> Archive:
    """Read a file that has last changed at some time; once for all config names that it is served under."""
    del changed
    if not zipfile.is_zipfile(file):
        raise ArchiveError("no zip archive, as every TorchScript file is")
    with zipfile.ZipFile(file) as archive:
        names = {name.partition("/")[2]: name for name in archive.namelist()}
        code = {name: archive.read(full).decode() for name, full in names.items() if name.endswith(".py")}
        if "data.pkl" not in names or not any(name.startswith("code/") for name in code):
            raise ArchiveError("an archive without code: weights alone, or a module that was pickled (torch.save)")
        head = forward_of(saved_class(archive.read(names["data.pkl"])), code)
        version = archive.read(names["version"]).decode().strip() if "version" in names else "0"
    arguments, returned = head
    operators = {".".join(filter(None, found)) for text in code.values() for found in OPERATOR.findall(text)}
    return Archive(int(version), arguments, count(returned), frozenset(operators))


def saved_class(pickle: bytes) -> str:
    """The dotted name of the class of the module that was saved."""
    for operation, argument, _ in pickletools.genops(pickle):
        if operation.name == "GLOBAL" and str(argument).startswith("__torch__"):
            return str(argument).replace(" ", ".")
    raise ArchiveError("an archive that holds no module")


def forward_of(name: str, code: dict[str, str]) -> tuple[tuple[Argument, ...], str]:
    """The arguments of a class's `forward`, and the type that it returns as it is written."""
    module, _, short = name.rpartition(".")
    text = code.get(f"code/{module.replace('.', '/')}.py", "")
    match = re.search(rf"^class {re.escape(short)}\(Module\):(.*?)(?=^class |\Z)", text, re.DOTALL | re.MULTILINE)
    head = re.search(r"  def forward\((.*?)\) -> ([^\n]+):\n", match[1], re.DOTALL) if match else None
    if head is None:
        raise ArchiveError(f"a module ({short}) without forward")
    _, *arguments = split(head[1])
    return tuple(argument(each) for each in arguments), head[2]


def argument(text: str) -> Argument:
    """One argument as it is written: `x: Optional[Tensor]=None`."""
    name, _, kind = text.partition(":")
    return Argument(name.strip(), KINDS.get(re.split(r"[\[=]", kind.strip())[0].strip(), kind.strip()))


def split(text: str) -> list[str]:
    """A list's items, where commas within brackets divide nothing."""
    items, depth = [""], 0
    for character in text:
        depth += (character in "[(") - (character in "])")
        if character == "," and depth == 0:
            items.append("")
        else:
            items[-1] += character
    return [item.strip() for item in items if item.strip()]


def count(returned: str) -> int | None:
    """How many results a type stands for."""
    if returned.startswith("Tuple["):
        return len(split(returned.removeprefix("Tuple[").removesuffix("]")))
    return 1 if returned.startswith(("Tensor", "List[str]")) else None
