"""Data sets: stand-ins in genuine file formats, torchvision's downloads of real sets, and failures.

The files are small versions of the real ones and every address is on this host: no test reaches the network.
"""

import gzip
import hashlib
import http.server
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.waiting import soon
from tools import datasets
from tools.datasets import DataError, cifar10, digits, drawing, load, load_first, mnist, silhouettes
from tools.datasets.files import network_timeout, staged
from tools.repository import ROOT
from tools.torchvision_import import load_torchvision

PER_BATCH = 20
DIGITS = 1437 * (1 + digits.COPIES)
Patch = pytest.MonkeyPatch
Printed = pytest.CaptureFixture[str]


def serve_from(patch: Patch, port: int) -> None:
    sets = load_torchvision().datasets
    patch.setattr(sets.MNIST, "mirrors", [f"http://127.0.0.1:{port}/"])
    patch.setattr(sets.CIFAR10, "url", f"http://127.0.0.1:{port}/{sets.CIFAR10.filename}")


@pytest.fixture(autouse=True)
def closed(monkeypatch: Patch) -> None:
    """Real sets come from a closed port of this host, unless a test opens a server of its own."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serve_from(monkeypatch, listener.getsockname()[1])


@pytest.fixture
def silent(closed: None, monkeypatch: Patch) -> Iterator[None]:
    """A server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serve_from(monkeypatch, listener.getsockname()[1])
        yield


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with both stand-ins, the silhouettes in batches of 20."""
    root = tmp_path_factory.mktemp("data")
    silhouettes.write(root, PER_BATCH)
    if all(path.is_file() for path in digits.files(datasets.DATA)):
        shutil.copytree(datasets.DATA / digits.FOLDER, root / digits.FOLDER)
    else:
        digits.write(root)
    return root


@pytest.fixture
def server(closed: None, small: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: Patch) -> Iterator[Path]:
    """The folder of a server that offers the stand-ins' files as MNIST and CIFAR-10."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

    folder = tmp_path_factory.mktemp("server")
    publish(folder, small, monkeypatch)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as running:
        serve_from(monkeypatch, running.server_port)
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield folder
        running.shutdown()
        thread.join()


def publish(folder: Path, small: Path, patch: Patch) -> None:
    real_mnist, real_cifar10 = load_torchvision().datasets.MNIST, load_torchvision().datasets.CIFAR10
    packed = {f"{path.name}.gz": gzip.compress(path.read_bytes(), 1) for path in digits.files(small)}
    for name, content in packed.items():
        (folder / name).write_bytes(content)
    patch.setattr(real_mnist, "resources", [(name, hashlib.md5(data).hexdigest()) for name, data in packed.items()])
    with tarfile.open(folder / real_cifar10.filename, "w:gz") as tar:
        tar.add(small / silhouettes.FOLDER, cifar10.FOLDER)
    patch.setattr(real_cifar10, "tgz_md5", hashlib.md5(Path(str(tar.name)).read_bytes()).hexdigest())
    for name in ("train_list", "test_list", "meta"):
        patch.setattr(real_cifar10, name, getattr(silhouettes.loader(small), name))


def put_mnist(root: Path, contents: list[bytes]) -> None:
    mnist.files(root)[0].parent.mkdir(parents=True)
    for path, content in zip(mnist.files(root), contents, strict=True):
        path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "train", "test"),
    [("digits", (DIGITS, 28, 28, 1), 360), ("silhouettes", (5 * PER_BATCH, 32, 32, 3), PER_BATCH)],
)
def test_a_stand_in_has_the_shapes_and_types_that_training_expects(
    name: str, train: tuple[int, ...], test: int, small: Path
) -> None:
    data = load(name, small)
    assert data.stand_in and "(stand-in for " in data.title
    assert data.train_images.shape == train and data.test_images.shape == (test, *train[1:])
    assert data.train_labels.shape == train[:1] and data.test_labels.shape == (test,)
    assert data.train_images.dtype == data.test_images.dtype == np.dtype(np.uint8)
    assert data.train_labels.dtype == data.test_labels.dtype == np.dtype(np.int64)
    assert set(data.test_labels) == set(data.train_labels) == set(range(len(data.classes)))


def test_only_training_digits_are_augmented_and_a_fifth_of_each_class_is_for_testing(small: Path) -> None:
    data = load("digits", small)
    originals, varied = data.train_images[:1437], data.train_images[1437 : 2 * 1437]
    assert not {image.tobytes() for image in data.train_images} & {image.tobytes() for image in data.test_images}
    alike = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(originals, varied, strict=True)]
    assert np.median(alike) > 0.7 > np.median([np.corrcoef(originals[0].ravel(), b.ravel())[0, 1] for b in varied])
    tested, trained = np.bincount(data.test_labels), np.bincount(data.train_labels[:1437])
    assert tested / (tested + trained) == pytest.approx(0.2, abs=0.005)


def test_digits_are_genuine_idx_files(small: Path) -> None:
    images, labels, *_ = (path.read_bytes() for path in digits.files(small))
    assert images[:16] == bytes([0, 0, 8, 3, *DIGITS.to_bytes(4, "big"), 0, 0, 0, 28, 0, 0, 0, 28])
    assert labels[:8] == bytes([0, 0, 8, 1, *DIGITS.to_bytes(4, "big")])
    assert (len(images), len(labels)) == (16 + 784 * DIGITS, 8 + DIGITS)


def test_a_batch_of_silhouettes_has_the_format_of_cifar10(small: Path) -> None:
    folder = small / silhouettes.FOLDER
    batch = pickle.loads((folder / "data_batch_1").read_bytes())
    assert batch["data"].shape == (PER_BATCH, 3072) and len(batch["labels"]) == PER_BATCH
    random = np.random.default_rng([silhouettes.SEED, 0])
    label = random.permutation(np.arange(PER_BATCH) % 10)[0]
    drawn = drawing.draw(cifar10.CLASSES[label], random)
    assert batch["labels"][0] == label
    assert np.array_equal(batch["data"][0, 1024:2048].reshape(32, 32), drawn[..., 1])
    assert np.array_equal(load("silhouettes", small).train_images[0], drawn)
    names = pickle.loads((folder / "batches.meta").read_bytes())["label_names"]
    assert names == list(cifar10.CLASSES) == list(drawing.FIGURES)


@pytest.mark.parametrize("name", cifar10.CLASSES)
def test_a_figure_stands_out_from_its_background_and_varies(name: str) -> None:
    random = np.random.default_rng(0)
    images = np.stack([drawing.draw(name, random) for _ in range(8)]).astype(float)
    corners, centres = images[:, :3, :3].mean((1, 2)), images[:, 12:20, 12:20].mean((1, 2))
    assert np.median(np.abs(corners - centres).sum(1)) > 60
    assert all(np.abs(images[0] - image).mean() > 10 for image in images[1:])


@pytest.mark.parametrize("name", ["digits", "silhouettes"])
def test_no_image_of_a_stand_in_occurs_twice(name: str, small: Path) -> None:
    data = load(name, small)
    every = [image.tobytes() for image in (*data.train_images, *data.test_images)]
    assert len(set(every)) == len(every)


def test_silhouettes_are_the_same_every_time(small: Path, tmp_path: Path) -> None:
    silhouettes.write(tmp_path, PER_BATCH)
    assert load("silhouettes", tmp_path).sha256 == load("silhouettes", small).sha256


def test_a_stand_in_is_generated_only_if_a_file_is_missing_and_is_the_same_every_time(
    small: Path, tmp_path: Path
) -> None:
    shutil.copytree(small / digits.FOLDER, tmp_path / digits.FOLDER)
    written = digits.files(tmp_path)[0].stat().st_mtime_ns
    expected = load("digits", tmp_path, download=False).sha256
    assert digits.files(tmp_path)[0].stat().st_mtime_ns == written
    digits.files(tmp_path)[3].unlink()
    assert load("digits", tmp_path, download=False).sha256 == expected
    assert digits.files(tmp_path)[0].stat().st_mtime_ns > written
    assert [path.name for path in tmp_path.iterdir()] == [digits.FOLDER]


def test_drawing_that_is_killed_leaves_nothing_that_looks_complete(tmp_path: Path) -> None:
    program = """
import pathlib, sys, time
from tools.datasets import silhouettes
put = silhouettes._put
silhouettes._put = lambda path, content: time.sleep(60) if path.name == "data_batch_3" else put(path, content)
silhouettes.write(pathlib.Path(sys.argv[1]), 100)
"""
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stderr=subprocess.DEVNULL)
    assert soon(lambda: bool(list(tmp_path.glob("*/*/data_batch_2"))))
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / silhouettes.FOLDER).exists()


def test_an_error_while_writing_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), staged(tmp_path / "set") as folder:
        (folder / "half").touch()
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_two_processes_that_write_the_same_set_both_find_it_complete(tmp_path: Path) -> None:
    with staged(tmp_path / "set") as slow:
        (slow / "file").write_text("the same")
        with staged(tmp_path / "set") as fast:
            (fast / "file").write_text("the same")
    assert (tmp_path / "set" / "file").read_text() == "the same"
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot write .*/file/DigitsStandIn"):
        load("digits", tmp_path / "file")


@pytest.mark.parametrize("name", ["digits", "silhouettes"])
def test_a_damaged_stand_in_is_named_with_the_folder_to_remove(name: str, small: Path, tmp_path: Path) -> None:
    module = datasets.module_of(name)
    shutil.copytree(small / module.FOLDER, tmp_path / module.FOLDER)
    damaged = module.files(tmp_path)[0]
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with pytest.raises(DataError, match=f"{tmp_path / module.FOLDER} .*remove that folder"):
        load(name, tmp_path)


@pytest.mark.parametrize("content", [b"", b"not an IDX file at all", bytes([0, 0, 8, 3, 0, 0, 0, 1]), bytes(64)])
def test_damaged_mnist_files_are_refused_and_not_replaced(content: bytes, tmp_path: Path) -> None:
    put_mnist(tmp_path, [content] * 4)
    with pytest.raises(DataError, match=r"cannot read MNIST from .*/MNIST/raw \(.+\); put the four"):
        load_first(("mnist", "digits"), tmp_path)


def test_mnist_with_different_numbers_of_images_and_labels_is_refused(small: Path, tmp_path: Path) -> None:
    images, labels, test_images, test_labels = (path.read_bytes() for path in digits.files(small))
    put_mnist(tmp_path, [images, test_labels, test_images, labels])
    with pytest.raises(DataError, match="expected 360 images of 28x28 for as many labels"):
        load("mnist", tmp_path)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(DataError, match="no data set 'minst'; there are: mnist, cifar10, digits, silhouettes"):
        load("minst")


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(("real", "stand_in"), [("mnist", "digits"), ("cifar10", "silhouettes")])
def test_a_real_set_is_downloaded_and_read_like_its_stand_in(
    real: str, stand_in: str, small: Path, tmp_path: Path, capsys: Printed
) -> None:
    data, expected = load(real, tmp_path), load(stand_in, small)
    assert (data.name, data.stand_in, data.classes) == (real, False, expected.classes)
    assert np.array_equal(data.train_images, expected.train_images)
    assert np.array_equal(data.test_labels, expected.test_labels)
    capsys.readouterr()
    # What is there now is used without asking anybody.
    assert load_first((real, stand_in), tmp_path).sha256 == data.sha256 == expected.sha256
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("mnist", "put the four.*--data digits"), ("cifar10", "unpack cifar-10-python.*--data silhouettes")],
)
def test_a_failed_download_names_set_folder_and_stand_in(name: str, remedy: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"cannot read .* from {tmp_path}/.*[Rr]efused.*; {remedy}"):
        load(name, tmp_path)


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_missing_files_are_named_if_downloads_are_not_allowed(name: str, tmp_path: Path) -> None:
    first = datasets.module_of(name).files(tmp_path)[0].name
    with pytest.raises(DataError, match=f"missing: {first}"):
        load(name, tmp_path, download=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("silent")
def test_a_stalled_download_times_out(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr("tools.datasets.mnist.network_timeout", partial(network_timeout, 0.3))
    before = socket.getdefaulttimeout()
    with pytest.raises(DataError, match=r"cannot read MNIST from .*timed out"):
        load("mnist", tmp_path)
    assert socket.getdefaulttimeout() == before


@pytest.mark.usefixtures("server")
def test_nothing_is_downloaded_unasked_and_the_notice_says_how(small: Path, capsys: Printed) -> None:
    data = load_first(("mnist", "digits"), small)
    out, err = capsys.readouterr()
    assert data.name == "digits" and out == ""
    assert f"MNIST is not in {small}" in err and data.title in err and "--data mnist" in err
    assert not (small / "MNIST").exists()


def test_a_broken_download_is_refused(server: Path, tmp_path: Path) -> None:
    (server / "t10k-labels-idx1-ubyte.gz").write_bytes(b"cut short")
    with pytest.raises(DataError, match="cannot read MNIST from "):
        load("mnist", tmp_path)


def test_torchvision_imports_in_a_clean_process_and_warns_of_nothing() -> None:
    program = (
        "import gc, torch; from tools.torchvision_import import load_torchvision as load; package = load(); "
        "gc.collect(); print(load() is package, package.datasets.MNIST.__name__, package.models.__name__, "
        "hasattr(torch.ops.torchvision, 'nms'))"
    )
    command = [sys.executable, "-W", "error", "-c", program]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (answer.stdout, answer.stderr) == ("True MNIST torchvision.models True\n", "")
