"""Export of language models, with a network of random weights: both forms, their proof, and refused weights."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.language.tiny import LIKE_LLAMA_3, MODEL, RECIPE, publish_tiny, write_configs, write_tiny
from tools.language import LanguageError
from tools.language.config import write_missing_config
from tools.language.source import find_weights
from tools.recipes import LanguageModel
from tools.repository import ROOT, read_config

pytest.importorskip("transformers", reason="needs the dependency group lm-export (`make lm`)")
pytest.importorskip("openvino_genai", reason="needs the dependency group lm (`make lm`)")

RECIPES = {
    "smollm2": RECIPE,
    "smollm2_int4": LanguageModel(parent="smollm2", precision="int4", budget=2.0, same=0.2),
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder."""
    return write_tiny(tmp_path_factory.mktemp("tiny") / "network")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of language models without versions."""
    return write_configs(tmp_path_factory.mktemp("models"), *RECIPES)


@pytest.fixture(scope="module")
def manifests(tiny: Path, models: Path) -> dict[str, dict[str, Any]]:
    """The manifests of a version of each."""
    return {name: publish_tiny(name, recipe, tiny, models) for name, recipe in RECIPES.items()}


def test_a_folder_is_published_in_both_forms_and_so_is_a_variant_of_it(
    manifests: dict[str, dict[str, Any]], models: Path
) -> None:
    for name, recipe in RECIPES.items():
        version, said = models / name / "1", manifests[name]["language"]
        assert json.loads((version / "model.json").read_text())["model"] == "./smollm2/1"
        assert said["precision"] == recipe.precision and said["licence"] == "Apache License 2.0"
        assert len(json.loads((version / "golden.json").read_text())["cases"]) == 20
        files = {file["name"] for file in manifests[name]["files"]}
        assert files >= {"config.json", "tokenizer.json", "chat_template.jinja", "openvino_tokenizer.xml"}
        assert ("model.safetensors" in files) == (name == "smollm2")
        assert all(file.stat().st_mode & 0o044 for file in version.iterdir())
    sizes = [(models / name / "1" / "openvino_model.bin").stat().st_size for name in manifests]
    assert sizes[1] < 0.7 * sizes[0]


def test_the_config_that_export_writes_is_that_of_the_model_of_this_repository(tiny: Path, tmp_path: Path) -> None:
    write_missing_config(MODEL, find_weights(MODEL, RECIPE, str(tiny), tmp_path), tmp_path)
    assert read_config(MODEL, repository=tmp_path) == read_config(MODEL)


def test_scaled_positions_tokens_of_a_template_and_further_ends_are_published_too(tmp_path: Path) -> None:
    weights, models = write_tiny(tmp_path / "network", rope=LIKE_LLAMA_3), write_configs(tmp_path / "models", MODEL)
    config, ends = models / MODEL / "config.pbtxt", list(range(5, 700, 7))
    (weights / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    with pytest.raises(LanguageError, match="in config.pbtxt, CHAT_TEMPLATE and EOS_TOKEN is not what"):
        publish_tiny(MODEL, RECIPE, weights, models)
    config.unlink()
    write_missing_config(MODEL, find_weights(MODEL, RECIPE, str(weights), models), models)
    said = publish_tiny(MODEL, RECIPE, weights, models)["language"]
    assert said["perplexity"] == pytest.approx(said["reference_perplexity"], rel=0.05)
    answers = [case["tokens"] for case in json.loads((models / MODEL / "1" / "golden.json").read_text())["cases"]]
    assert min(map(len, answers)) < 32 and not any(set(tokens[:-1]) & set(ends) for tokens in answers)


@pytest.mark.usefixtures("manifests")
def test_two_forms_of_different_weights_are_refused(models: Path, tmp_path: Path) -> None:
    from tools.language.engine import Engine
    from tools.language.folder import _case
    from tools.language.network import Network
    from tools.language.proof import prove

    other, engine = Network(write_tiny(tmp_path / "other", seed=1)), Engine(models / "smollm2" / "1")
    case = _case(engine, "Hello")
    with pytest.raises(LanguageError, match=r"tokens that OpenVINO chose, transformers would have chosen \d+ after"):
        prove("smollm2", other, engine, [case], LanguageModel(budget=99))
    with pytest.raises(LanguageError, match=r"perplexity \d.* in OpenVINO and \d.* in transformers on \d+ tokens"):
        prove("smollm2", other, engine, [case], LanguageModel(budget=-0.9))


def _without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _with(name: str, **changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        document = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(document | changes))

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_without("config.json"), "expected config.json, tokenizer.json and *.safetensors"),
        (_without("LICENSE"), "does not say under which licence it is; put its LICENSE file beside it"),
        (_without("chat_template.jinja"), "has no chat template"),
        (
            lambda folder: (folder / "chat_template.jinja").write_text("{{ messages }}"),
            "'{{ messages }}'; correct it, or remove config.pbtxt and have it written anew",
        ),
        (_with("config.json", model_type="bloom"), "bloom"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"{}"), "transformers cannot read"),
    ],
    ids=("no config", "no licence", "no template", "another template", "another network", "damaged"),
)
def test_folders_that_cannot_be_published_are_refused_in_words(
    change: Callable[[Path], None], words: str, tiny: Path, tmp_path: Path, models: Path
) -> None:
    from tools.export.preparation import prepare
    from tools.train.settings import TrainOptions

    folder, staging = Path(shutil.copytree(tiny, tmp_path / "changed")), tmp_path / "staging"
    change(folder)
    staging.mkdir()
    with pytest.raises(LanguageError) as refused:
        fill, _ = prepare("smollm2", TrainOptions(weights=str(folder)), models)
        fill(staging)
    assert words in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (str(ROOT / "README.md"), "README.md is a file of an unknown kind; expected a GGUF file"),
        ("no such folder", "are neither a Hugging Face folder, nor a GGUF file, nor a name on a hub"),
        ("nobody/nothing", "cannot bring nobody/nothing from the hub"),
    ],
)
def test_weights_that_are_not_there_are_an_error(weights: str, words: str, models: Path) -> None:
    with pytest.raises(LanguageError) as refused:
        find_weights("smollm2", LanguageModel(), weights, models)
    assert words in str(refused.value) and "\n" not in str(refused.value)
