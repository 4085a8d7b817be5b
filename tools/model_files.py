"""What a file with a model in it is, told from its bytes without importing or running anything."""

import pickletools
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

# Namespaces of the operators that every libtorch has.
BUILT_IN = frozenset(["aten", "prim", "prepacked", "quantized", "onednn", "mkldnn", "mkldnn_prepacked", "static"])
_TORCHSCRIPT, _STATE = "a TorchScript file", "a state dict"
_REMEDIES = {
    _TORCHSCRIPT: "give it as --torchscript; its code and weights are in it",
    _STATE: "give it as --checkpoint, with the --module or --torchvision that it belongs to",
    "a safetensors file": "give it as --checkpoint, with the --module or --torchvision that it belongs to",
    "a torch.export program (.pt2)": "give its Python source as --module: TorchScript is made from that",
    "an ONNX model": "serve it as it is, in a folder of its own with backend: \"onnxruntime\"",
    "a GGUF file": "it holds a language model for other engines; give PyTorch code as --module",
    "an HDF5 file, as Keras writes": "give PyTorch code as --module, and its weights as --checkpoint",
    "a Git LFS pointer": "run `git lfs pull`",
    "a web page": "download the file itself",
    "empty": "download or save it again",
}  # fmt: skip
_MAGIC = {
    b"GGUF": "a GGUF file",
    b"\x89HDF": "an HDF5 file, as Keras writes",
    b"version https://git-lfs": "a Git LFS pointer",
    b"<!DOCTYPE": "a web page",
    b"<html": "a web page",
}
# What a state dict consists of; any other class in a pickle is somebody's code.
_PLAIN = ("collections.", "torch._utils.", "torch._tensor.", "numpy", "argparse.", "pathlib.", "_codecs.", "builtins.")
_PICKLE = b"\x80"


@dataclass(frozen=True)
class FileKind:
    """What a file is, and what to do with it."""

    title: str  # With an article: "a state dict".
    remedy: str
    classes: tuple[str, ...] = ()  # Of a pickle: the classes of others' code that it names.

    @property
    def is_state_dict(self) -> bool:
        """Whether it is a pickle of tensors, and nothing but data beside them."""
        return self.title == _STATE

    @property
    def is_torchscript(self) -> bool:
        """Whether it holds code as TorchScript."""
        return self.title == _TORCHSCRIPT


def kind_of(file: Path) -> FileKind:
    """Tell what a file is."""
    with file.open("rb") as stream:
        start = stream.read(64)
        title = next((title for magic, title in _MAGIC.items() if start.startswith(magic)), "")
        if title or not start:
            title = title or "empty"
        elif zipfile.is_zipfile(file):
            return _kind_of_archive(file)
        elif start.startswith(_PICKLE):
            stream.seek(0)
            return _kind_of_pickle(stream)
        elif start[8:9] == b"{" and int.from_bytes(start[:8], "little") < file.stat().st_size:
            title = "a safetensors file"
        elif file.suffix == ".onnx" or (start[:1] == b"\x08" and start[2:3] in (b"\x12", b":")):
            title = "an ONNX model"
        else:
            return FileKind("a file of an unknown kind", "name another file")
    return FileKind(title, _REMEDIES[title])


def _kind_of_archive(file: Path) -> FileKind:
    with zipfile.ZipFile(file) as archive:
        names = {name.partition("/")[2]: name for name in archive.namelist()}
        if "data.pkl" in names and any(name.startswith("code/") for name in names):
            return FileKind(_TORCHSCRIPT, _REMEDIES[_TORCHSCRIPT])
        if {"archive_format", "serialized_exported_program.json"} & {*names, *archive.namelist()}:
            title = "a torch.export program (.pt2)"
            return FileKind(title, _REMEDIES[title])
        if "data.pkl" not in names:
            return FileKind("a zip archive that torch did not write", "name another file")
        with archive.open(names["data.pkl"]) as stream:
            return _kind_of_pickle(stream)


def _kind_of_pickle(stream: IO[bytes]) -> FileKind:
    classes = tuple(dict.fromkeys(name for name in _globals(stream) if not _is_plain(name)))
    if not classes:
        return FileKind(_STATE, _REMEDIES[_STATE])
    remedy = (
        "loading it would run code; where that code is installed, save the weights alone: "
        "torch.save(NETWORK.state_dict(), FILE)"
    )
    return FileKind(f"a pickled object with {classes[0]}", remedy, classes)


def _is_plain(name: str) -> bool:
    return name.startswith(_PLAIN) or (name.startswith("torch.") and name.count(".") == 1)


def _globals(stream: IO[bytes]) -> list[str]:
    found: list[str] = []
    strings: list[str] = []
    for _ in range(5):  # Before torch 1.6, a file was several pickles.
        try:
            for operation, argument, _ in pickletools.genops(stream):
                if operation.name == "GLOBAL":
                    found.append(str(argument).replace(" ", "."))
                elif operation.name == "STACK_GLOBAL":
                    found.append(".".join(strings[-2:]))
                elif isinstance(argument, str):
                    strings.append(argument)
        except ValueError:
            break
    return found
