"""A version's folder of a language model: what vLLM reads, what OpenVINO reads, golden answers, and their proof."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version as release
from pathlib import Path
from typing import Any

from clients.chat import prompt_from
from clients.contract import Contract
from tools.language import gguf_file
from tools.language.config import prove_chat
from tools.language.engine import Engine, write_network, write_tokenizer
from tools.language.network import Network, read_tokenizer, write_weights
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


def fill(contract: Contract, recipe: LanguageModel, source: Source, version: int, folder: Path) -> Published:
    """Write both forms of a language model into an empty folder, and prove that they are one.

    Of a variant, vLLM reads its parent's weights. `contract` is that of its config, from which clients render chats.

    Raises:
        LanguageError: the weights cannot be read or converted, the forms differ, or clients would render other chats.
    """
    tokenizer, model = read_tokenizer(source.path), contract.model
    prove_chat(contract, tokenizer, source.title)
    whole = source.path if recipe.parent else folder
    if recipe.parent:
        for file in {file for pattern in _SHARED for file in whole.glob(pattern)}:
            shutil.copyfile(file, folder / file.name)
    else:
        write_weights(source.path, folder)
        tokenizer.save_pretrained(folder)
        write_tokenizer(tokenizer, folder)
    network = Network(whole)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        file = Path(scratch) / "model.gguf"
        gguf_file.write(whole, file, recipe.precision, source.title)
        write_network(file, folder, network.frequencies)
    name = f"./{recipe.parent}/{whole.name}" if recipe.parent else f"./{model}/{version}"
    _write_arguments({"model": name, **recipe.engine}, folder)
    engine = Engine(folder)
    prompts = [prompt_from(contract, [{"role": "user", "content": question}]) for question in questions()]
    cases = [_case(engine, prompt) for prompt in prompts]
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
