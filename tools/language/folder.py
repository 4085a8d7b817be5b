"""A version's folder of a language model: what vLLM reads, what OpenVINO reads, golden answers, and their proof."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version as release
from pathlib import Path
from typing import Any

from tools.language import LanguageError, gguf_file
from tools.language.engine import Engine, write_network, write_tokenizer
from tools.language.network import Network, write_folder
from tools.language.proof import MAX_TOKENS, Agreement, Case, prove, questions
from tools.language.source import Source
from tools.recipes import LanguageModel

_ENGINE_ARGUMENTS = "model.json"  # vLLM's, by the name that Triton's backend looks for.
_GOLDEN = "golden.json"
# What a variant shares with its parent and OpenVINO reads too.
_SHARED = ("*.json", "*.jinja", "openvino_tokenizer.*", "openvino_detokenizer.*")


@dataclass(frozen=True)
class Published:
    """What was written, for the manifest."""

    source: Source
    precision: str
    parameters: int
    agreement: Agreement

    def document(self) -> dict[str, Any]:
        """What the manifest says about a language model beside its parameters."""
        source = self.source
        return {
            "source": source.title,
            "licence": source.licence,
            "stand_in": source.stand_in,
            "sha256": source.sha256,
            "precision": self.precision,
            **asdict(self.agreement),
            "releases": {name: release(name) for name in ("transformers", "openvino-genai")},
        }


def fill(model: str, recipe: LanguageModel, source: Source, version: int, template: str, folder: Path) -> Published:
    """Write both forms of a language model into an empty folder, and prove that they are one.

    Of a variant, vLLM reads its parent's weights. `template` is the chat template that clients find in the config.

    Raises:
        LanguageError: the weights cannot be read or converted, the forms differ, or the template is another one.
    """
    whole = source.path if recipe.parent else folder
    if recipe.parent:
        for file in {file for pattern in _SHARED for file in whole.glob(pattern)}:
            shutil.copyfile(file, folder / file.name)
    else:
        write_folder(source.path, folder)
    network = Network(whole)
    if template != (own := network.tokenizer.chat_template):
        raise LanguageError(f"{model}: CHAT_TEMPLATE in config.pbtxt is not that of {source.title}; set it to {own!r}")
    if not recipe.parent:
        write_tokenizer(network.tokenizer, folder)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        file = Path(scratch) / "model.gguf"
        gguf_file.write(whole, file, recipe.precision)
        write_network(file, folder)
    name = f"./{recipe.parent}/{whole.name}" if recipe.parent else f"./{model}/{version}"
    _write_arguments({"model": name, **recipe.engine}, folder)
    engine = Engine(folder)
    cases = [_case(engine, network.chat(question)) for question in questions()]
    agreement = prove(model, network, engine, cases, recipe)
    _write_golden(cases, folder)
    for file in folder.iterdir():
        file.chmod(0o644)  # Hugging Face's writers leave weights to their owner alone, and containers run as others.
    return Published(source, recipe.precision, network.parameters, agreement)


def _write_arguments(arguments: dict[str, Any], folder: Path) -> None:
    # Triton's vllm backend looks from the server's working directory, which is the repository (docker-compose.yml).
    # With the dot in front, vLLM never takes the path for a name on a hub.
    (folder / _ENGINE_ARGUMENTS).write_text(json.dumps(arguments, indent=2) + "\n")


def _case(engine: Engine, prompt: str) -> Case:
    tokens, text = engine.answer(prompt, MAX_TOKENS)
    return Case(prompt, len(engine.tokens(prompt)), tokens, text)


def _write_golden(cases: Sequence[Case], folder: Path) -> None:
    parameters = {"temperature": 0, "max_tokens": MAX_TOKENS}
    document = {"sampling_parameters": parameters, "cases": [asdict(case) for case in cases]}
    (folder / _GOLDEN).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
