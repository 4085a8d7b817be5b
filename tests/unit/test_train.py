"""Training: the same weights every time, also after an interruption, and each checkpoint belongs to one combination."""

import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.waiting import soon
from tools import recipes
from tools.datasets import ImageData
from tools.export.preparation import final_network
from tools.recipes import RecipeError
from tools.repository import REPOSITORY, ROOT, RepositoryError, config_path
from tools.torchscript import outputs
from tools.train import __main__ as train
from tools.train import training
from tools.train.settings import Settings, TrainOptions

pytestmark = pytest.mark.usefixtures("one_thread")
MODEL = "mnist_mlp"
EPOCHS = 4
PROGRAM = """
import signal
import sys
import time
from pathlib import Path
from tools.train import __main__ as train, checkpoints, training
signal.signal(signal.SIGINT, signal.default_int_handler)  # A suite in the background passes on that it is ignored.
import torch
torch.set_num_threads(1)
checkpoints.CHECKPOINTS = Path(sys.argv.pop(1))
save = training.save
training.save = lambda *what: save(*what) or (what[-1] == 2 and time.sleep(60))  # Until it is ended, halfway.
sys.exit(train.main())
"""
SETTINGS = Settings(MODEL, "random", epochs=3, batch_size=16, lr=1e-3, seed=0, device="cpu")
Patch = pytest.MonkeyPatch
Printed = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def checkpoints(tmp_path: Path, monkeypatch: Patch) -> Path:
    """A folder for the checkpoints of one test."""
    monkeypatch.setattr("tools.train.checkpoints.CHECKPOINTS", tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The model's config in a repository for one test to change."""
    (tmp_path / "models" / MODEL).mkdir(parents=True)
    shutil.copy(config_path(MODEL), tmp_path / "models" / MODEL)
    return tmp_path / "models"


@pytest.fixture(scope="module")
def data() -> ImageData:
    """A few random images with the shape of MNIST's."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (80, 28, 28, 1), np.uint8)
    labels = random.integers(0, 10, 80)
    classes = tuple("0123456789")
    return ImageData("random", "noise", True, classes, images[:64], labels[:64], images[64:], labels[64:], "0" * 64)


def weights(trained: training.Trained) -> dict[str, Tensor]:
    return trained.network.state_dict()


def same(first: training.Trained, second: training.Trained) -> bool:
    """Whether two networks have the same weights, bit for bit."""
    return all(torch.equal(weights(first)[name], weights(second)[name]) for name in weights(first))


def epochs_run(printed: str) -> list[int]:
    """The epochs that training reported."""
    return [int(number) for number in re.findall(r"epoch (\d+)/\d+: mean loss", printed)]


def checkpoint_in(folder: Path) -> Path:
    (path,) = (folder / MODEL).glob("*.pt")
    return path


def test_the_same_settings_give_the_same_weights_and_another_seed_gives_others(data: ImageData) -> None:
    first, again = (training.train(SETTINGS, data, fresh=True) for _ in range(2))
    other = training.train(replace(SETTINGS, seed=1), data)
    assert same(first, again) and not same(first, other)


def test_a_finished_training_is_loaded_instead_of_repeated(data: ImageData, capsys: Printed) -> None:
    first = training.train(SETTINGS, data)
    assert epochs_run(capsys.readouterr().err) == [1, 2, 3]
    assert same(training.train(SETTINGS, data), first)
    assert epochs_run(capsys.readouterr().err) == []
    assert same(training.train(SETTINGS, data, fresh=True), first)
    assert epochs_run(capsys.readouterr().err) == [1, 2, 3]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model", ["cifar10_cnn_sparse80", "cifar10_cnn_int8_qat"])
def test_a_variant_is_rebuilt_as_it_was_when_it_was_tested_and_exported(model: str, data: ImageData) -> None:
    pictures = np.random.default_rng(1).integers(0, 256, (80, 32, 32, 3), np.uint8)
    data = replace(data, train_images=pictures[:64], test_images=pictures[64:])
    settings = replace(SETTINGS, model=model, epochs=1)
    exported, rebuilt = (
        final_network(training.train(settings, data, rebuild=rebuild), REPOSITORY) for rebuild in (False, True)
    )
    rows = training.samples(data, training.input_spec(model))
    assert all(torch.equal(*pair) for pair in zip(outputs(exported, rows), outputs(rebuilt, rows), strict=True))


def test_training_fits_the_training_set(data: ImageData) -> None:
    fit = training.train(replace(SETTINGS, epochs=30), data)
    score = training.accuracy(fit.network, data.train_images, data.train_labels, training.input_spec(MODEL))
    assert score > 0.9 and not fit.network.training


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_training_resumes_to_the_weights_of_an_uninterrupted_one(
    number: int, tmp_path: Path, checkpoints: Path, monkeypatch: Patch, capsys: Printed
) -> None:
    options = [MODEL, "--data=digits", f"--epochs={EPOCHS}", "--device=cpu", "--batch-size=256"]
    killed = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(checkpoints), *options], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    assert soon(lambda: bool(list(checkpoints.glob("*/*.pt"))), 60)
    killed.send_signal(number)
    _, stderr = killed.communicate(timeout=60)
    assert killed.returncode == (130 if number == signal.SIGINT else -number)
    assert ("the same command resumes after the last finished epoch" in stderr) == (number == signal.SIGINT)
    done = torch.load(checkpoint_in(checkpoints))["epochs"]
    assert 0 < done <= 2

    same_options = TrainOptions(data="digits", epochs=EPOCHS, device="cpu", batch_size=256)
    resumed = training.train_model(MODEL, same_options)
    assert epochs_run(capsys.readouterr().err) == list(range(done + 1, EPOCHS + 1))
    monkeypatch.setattr("tools.train.checkpoints.CHECKPOINTS", tmp_path / "others")
    uninterrupted = training.train_model(MODEL, same_options)
    assert epochs_run(capsys.readouterr().err) == list(range(1, EPOCHS + 1))
    assert same(resumed, uninterrupted) and resumed.accuracy == uninterrupted.accuracy


def test_a_resumed_training_draws_the_dropout_of_an_uninterrupted_one(data: ImageData, monkeypatch: Patch) -> None:
    def network() -> nn.Module:
        return nn.Sequential(nn.Linear(784, 32), nn.Dropout(0.5), nn.Linear(32, 10))

    recipe = replace(recipes.load(MODEL), network=network)
    monkeypatch.setattr(recipes, "load", lambda _: recipe)
    uninterrupted = training.train(SETTINGS, data, fresh=True)
    save = training.save

    def interrupted(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, epochs: int) -> None:
        save(path, network, optimizer, epochs)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        training.train(SETTINGS, data, fresh=True)
    monkeypatch.setattr(training, "save", save)
    torch.rand(7)  # Whatever else the resuming process has drawn must not matter.
    assert same(training.train(SETTINGS, data), uninterrupted)


@pytest.mark.parametrize(
    "change", [{"epochs": 4}, {"batch_size": 8}, {"lr": 2e-3}, {"seed": 1}, {"device": "cuda"}, {"data": "other"}]
)
def test_other_settings_have_their_own_checkpoint(change: dict[str, int], data: ImageData) -> None:
    spec = training.input_spec(MODEL)
    changed = replace(SETTINGS, **change)  # type: ignore[arg-type]
    assert training.checkpoint_path([changed], data, spec) != training.checkpoint_path([SETTINGS], data, spec)


@pytest.mark.parametrize(("seed", "name"), [(0, "silhouettes-f074459ed09d.pt"), (1, "silhouettes-8f409beb9ebc.pt")])
def test_checkpoints_of_earlier_releases_are_still_found(seed: int, name: str, data: ImageData) -> None:
    # The name is a hash over the text of recipes and of compression. If one of them is changed on purpose, trainings
    # start over and the names here change; if a file has only moved, they must not.
    variant = Settings("cifar10_cnn_int8", "silhouettes", epochs=0, batch_size=64, lr=1e-3, seed=seed, device="cpu")
    parent = replace(variant, model="cifar10_cnn", epochs=10)
    spec = training.input_spec("cifar10_cnn_int8")
    path = training.checkpoint_path([variant, parent], replace(data, name="silhouettes"), spec)
    assert path.name == name


def test_other_data_or_normalisation_starts_over(data: ImageData, repository: Path, capsys: Printed) -> None:
    training.train(SETTINGS, data)
    capsys.readouterr()
    training.train(SETTINGS, replace(data, sha256="1" * 64))
    assert epochs_run(capsys.readouterr().err) == [1, 2, 3]
    config = repository / MODEL / "config.pbtxt"
    config.write_text(config.read_text().replace('"0.1307"', '"0.5"'))
    training.train(SETTINGS, data, repository=repository)
    assert epochs_run(capsys.readouterr().err) == [1, 2, 3]


def test_a_damaged_checkpoint_is_named_with_the_remedy(data: ImageData, checkpoints: Path) -> None:
    first = training.train(SETTINGS, data)
    path = checkpoint_in(checkpoints)
    for content in (b"", b"not a checkpoint", path.read_bytes()[:-500]):
        path.write_bytes(content)
        with pytest.raises(RecipeError, match=rf"the checkpoint {path} is damaged; start over with --fresh"):
            training.train(SETTINGS, data)
    assert same(training.train(SETTINGS, data, fresh=True), first)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_config_without_normalisation_is_refused(data: ImageData, repository: Path) -> None:
    config = repository / MODEL / "config.pbtxt"
    config.write_text(config.read_text().replace("IMAGE_MEAN", "IMAGE_MEEN"))
    with pytest.raises(RepositoryError, match="its config.pbtxt has no parameters IMAGE_MEAN and IMAGE_STD"):
        training.train(SETTINGS, data, repository=repository)


@pytest.mark.parametrize("arguments", [["--epochs=0"], ["--batch-size=-1"], ["--lr=nan"], ["--lr=fast"]])
def test_invalid_numbers_are_refused_by_name(arguments: list[str], monkeypatch: Patch, capsys: Printed) -> None:
    monkeypatch.setattr(sys, "argv", ["train", MODEL, *arguments])
    with pytest.raises(SystemExit, match="2"):
        train.main()
    flag, value = arguments[0].split("=")
    assert re.search(rf"argument {flag}: expected a .*number above 0, got '{value}'", capsys.readouterr().err)


def test_an_unknown_model_lists_the_recipes(monkeypatch: Patch, capsys: Printed) -> None:
    monkeypatch.setattr(sys, "argv", ["train", "minst_mlp"])
    assert train.main() == 2
    message = f"error: no recipe tools/recipes/minst_mlp.py; there are: {', '.join(recipes.names())}\n"
    assert capsys.readouterr().err == message
