"""`python -m clients.classify` and `python -m clients.status` as people run them, against the session's server."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clients.client import Client
from clients.connection import Connection, Protocol
from tests.conftest import Command
from tests.e2e.peers import nobody
from tests.waiting import settled
from tools.repository import ROOT, model_names, versions
from tools.serve.tritonserver import Options, Server

SAMPLES = ROOT / "build" / "samples"
CIFAR, DIGITS = SAMPLES / "cifar10_cnn", SAMPLES / "mnist_mlp"
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.fixture
def frog() -> Path:
    return min((CIFAR / "frog").iterdir())


@pytest.fixture
def mixed(tmp_path: Path, frog: Path) -> Path:
    """A folder `frog` of two good images with a file between them that is none, and one that is cut off."""
    folder = tmp_path / "frog"
    folder.mkdir()
    content = frog.read_bytes()
    for name, data in {"a.png": content, "b.png": b"no image", "c.png": content, "d.png": content[:300]}.items():
        (folder / name).write_bytes(data)
    return folder


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one JSON document of stdout."""
    assert done.stdout.count("\n") == 1, done.stdout
    parsed: dict[str, Any] = json.loads(done.stdout)
    return parsed


def test_an_image_gets_its_best_labels_with_probabilities(
    command: Command, server: Server, protocol: Protocol, frog: Path
) -> None:
    done = command("clients.classify", frog, "--protocol", protocol, "--top", "2", server=server)
    assert (done.returncode, done.stderr) == (0, "")
    name, _, labels = done.stdout.strip().partition(": ")
    assert name == str(frog)
    words = labels.split()
    assert len(words) == 4 and set(words[::2]) < set(CLASSES)
    first, second = (float(word.rstrip("%")) for word in words[1::2])
    assert 0 <= second <= first <= 100


def test_the_labels_are_those_of_the_model_s_own_output(command: Command, server: Server, protocol: Protocol) -> None:
    files = [min((CIFAR / name).iterdir()) for name in CLASSES]
    done = command("clients.classify", *files, "--protocol", protocol, "--json", "--top", "10", server=server)
    pixels = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files]).transpose(0, 3, 1, 2) / 255
    with Client(Connection("http", server.http)) as client:
        logits = client.infer("cifar10_cnn", ((pixels - 0.5) / 0.5).astype(np.float32))["OUTPUT__0"]
    results = document(done)["results"]
    assert [result["file"] for result in results] == [str(file) for file in files]
    for result, scores in zip(results, logits, strict=True):
        assert {label["name"] for label in result["labels"]} == set(CLASSES)
        by_index = sorted(result["labels"], key=lambda label: label["index"])
        np.testing.assert_allclose([label["score"] for label in by_index], scores, rtol=1e-3, atol=1e-4)
        assert result["labels"][0]["index"] == int(np.argmax(scores))
        assert sum(label["probability"] for label in result["labels"]) == pytest.approx(1)


def test_folders_are_searched_and_their_names_are_the_truth(
    command: Command, server: Server, protocol: Protocol
) -> None:
    arguments = (DIGITS, "--model", "mnist_mlp", "--protocol", protocol, "--truth")
    answers = document(command("clients.classify", *arguments, "--json", server=server))
    files = sorted(DIGITS.rglob("*.png"))
    assert [result["file"] for result in answers["results"]] == [str(file) for file in files]
    assert [result["truth"] for result in answers["results"]] == [file.parent.name for file in files]
    right = [result["labels"][0]["name"] == result["truth"] for result in answers["results"]]
    assert answers["accuracy"] == pytest.approx(sum(right) / len(files)) and answers["accuracy"] > 0.8
    shown = command("clients.classify", *arguments, server=server).stdout
    assert shown.splitlines()[-1] == f"{answers['accuracy']:.1%} of {len(files)} right"
    assert shown.count(", WRONG)") == len(files) - sum(right)


def test_without_truth_there_is_no_accuracy(command: Command, server: Server, frog: Path) -> None:
    answers = document(command("clients.classify", frog, "--json", server=server))
    assert "accuracy" not in answers and "truth" not in answers["results"][0]


def test_a_picture_that_the_pipeline_refuses_does_not_stop_the_others(
    command: Command, server: Server, protocol: Protocol, frog: Path, tmp_path: Path
) -> None:
    for name in ("a.png", "b.png", "c.png"):
        shutil.copy(frog, tmp_path / name)
    (tmp_path / "b.png").write_bytes(frog.read_bytes()[:300])
    (tmp_path / "c.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    options = ("--model", "cifar10_image_bytes", "--protocol", protocol)
    done = command("clients.classify", tmp_path, *options, PYTHONIOENCODING="utf-8", server=server)
    assert done.returncode == 1 and "Traceback" not in done.stderr + done.stdout, done.stderr
    first, bad, third = done.stdout.splitlines()
    assert "frog" in first and "frog" in third and third.startswith(f"{tmp_path}/caf\\udce9.png: ")
    assert bad.startswith(f"{tmp_path / 'b.png'}: error: ") and len(bad) < 300, bad
    done = command("clients.classify", tmp_path, *options, "--json", server=server)
    results = document(done)["results"]
    assert ["error" in result for result in results] == [False, True, False]
    assert os.fsencode(results[2]["file"]).endswith(b"/caf\xe9.png")


def test_answers_are_shown_as_they_come_and_kept_when_the_server_fails(repository: Path, frog: Path) -> None:
    with Server(Options(repository, flags=("--model-control-mode=explicit", "--load-model=cifar10_cnn"))) as server:
        line = [
            sys.executable,
            "-m",
            "clients.classify",
            *[str(frog)] * 20_000,
            "--batch-size",
            "1",
            "--url",
            server.http,
        ]
        process = subprocess.Popen(line, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout and process.stdout.readline().startswith(f"{frog}: ")
        os.kill(server.pid, signal.SIGKILL)
        shown, errors = process.communicate(timeout=60)
    assert process.returncode == 2 and errors.startswith("error: ") and len(errors.splitlines()) == 1
    assert all(line.startswith(f"{frog}: frog") for line in shown.splitlines())


def test_files_that_are_no_images_do_not_stop_the_others(
    command: Command, server: Server, protocol: Protocol, mixed: Path
) -> None:
    done = command("clients.classify", mixed, "--protocol", protocol, "--truth", "--json", server=server)
    assert done.returncode == 1
    first, text, third, cut = document(done)["results"]
    assert first["labels"] == third["labels"] and first["truth"] == "frog"
    assert f"{mixed / 'b.png'} is not an image that can be read" in text["error"]
    assert f"{mixed / 'd.png'} is not an image that can be read" in cut["error"]
    shown = command("clients.classify", mixed, "--truth", server=server)
    assert shown.returncode == 1
    assert shown.stdout.count(": error: ") == 2
    # The accuracy is that of the files that could be read.
    assert shown.stdout.splitlines()[-1] in ("100.0% of 2 right", "0.0% of 2 right")


def test_files_that_are_all_no_images_need_no_request(command: Command, server: Server, mixed: Path) -> None:
    done = command("clients.classify", mixed / "b.png", "--truth", "--json", server=server)
    assert done.returncode == 1
    assert document(done)["accuracy"] is None


def test_a_file_named_twice_is_classified_twice(command: Command, server: Server, frog: Path) -> None:
    first, second = document(command("clients.classify", frog, frog, "--json", server=server))["results"]
    assert first == second and first["labels"]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_batch_size_changes_the_requests_and_not_the_answers(command: Command, server: Server, size: int) -> None:
    def requests() -> tuple[int, int]:
        with Client(Connection("http", server.http)) as client:
            (statistics,) = client.statistics("cifar10_cnn")
        return statistics["inference_stats"]["success"]["count"], statistics["inference_count"]

    files = sorted((CIFAR / "cat").iterdir()) + sorted((CIFAR / "dog").iterdir())
    before = settled(requests)
    done = command("clients.classify", *files, "--batch-size", str(size), "--json", server=server)
    after = settled(requests)
    assert after[0] - before[0] == -(-len(files) // size)
    assert after[1] - before[1] == len(files)
    assert [result["file"] for result in document(done)["results"]] == [str(file) for file in files]


def test_the_progress_bar_goes_to_the_terminal_and_not_into_the_results(server: Server) -> None:
    # Only a terminal gets a bar, so that stderr has to be one.
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    line = [sys.executable, "-m", "clients.classify", str(CIFAR), "--json", "--batch-size", "4", "--url", server.http]
    with ThreadPoolExecutor(1) as pool:
        # Meanwhile: a terminal that nobody reads is full after some seconds of a bar.
        reading = pool.submit(written_to, ours)
        done = subprocess.run(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=theirs, text=True, timeout=120)
        os.close(theirs)
        shown = reading.result()
    assert "classifying" in shown and "%" in shown
    assert len(document(done)["results"]) == len(list(CIFAR.rglob("*.png")))


def written_to(terminal: int) -> str:
    """All that is written to a terminal until nobody has it open any more."""
    shown = b""
    with os.fdopen(terminal, "rb", buffering=0) as stream, suppress(OSError):
        while part := stream.read(4096):
            shown += part
    return shown.decode(errors="replace")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("{frog}", "--model", "no_such_model"), "unknown model: 'no_such_model' is not found"),
        (("gone.png",), "gone.png does not exist"),
        (("{empty}",), "holds no image"),
        (("{frog}", "--url", "http://127.0.0.1:8000"), "expected an address HOST:PORT"),
        (("{frog}", "--timeout", "0"), "expected a timeout of more than 0 seconds"),
        (("{frog}", "--header", "novalue"), "expected a header NAME=VALUE"),
        (("{frog}", "--top", "0"), "argument --top: expected a whole number above 0, got '0'"),
        (("{frog}", "--batch-size", "-3"), "argument --batch-size: expected a whole number above 0, got '-3'"),
    ],
)
def test_an_unusable_argument_is_explained_on_stderr_with_exit_code_two(
    command: Command, server: Server, frog: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    named = [argument.format(frog=frog, empty=tmp_path) for argument in arguments]
    done = command("clients.classify", *named, server=server)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("module", ["clients.classify", "clients.status"])
def test_a_server_that_is_down_is_exit_code_two_with_the_remedy(
    command: Command, protocol: Protocol, module: str, frog: Path
) -> None:
    images = [frog] if module == "clients.classify" else []
    done = command(module, *images, "--protocol", protocol, "--url", nobody())
    assert (done.returncode, done.stdout) == (2, "")
    assert "no server answers at" in done.stderr and "python -m tools.serve" in done.stderr
    assert "Traceback" not in done.stderr


def test_status_shows_server_models_and_counters(
    command: Command, server: Server, protocol: Protocol, repository: Path
) -> None:
    done = command("clients.status", "--protocol", protocol, server=server)
    assert (done.returncode, done.stderr) == (0, "")
    first, header, *rows, last = done.stdout.splitlines()
    assert first.startswith("triton 2.") and first.endswith(", ready")
    assert {"requests", "mean_batch", "queue_us", "compute_infer_us"} < set(header.split())
    built = [model for model in model_names(repository) if versions(model, repository)]
    assert [row.split()[0] for row in rows] == built and all("READY" in row.split() for row in rows)
    # A model that nobody has built yet is named, and that is all.
    unbuilt = [model for model in model_names(repository) if model not in built]
    assert unbuilt and last == f"not loaded: {', '.join(unbuilt)}"


def test_status_shows_a_model_that_is_not_loaded_when_it_is_named(
    command: Command, server: Server, protocol: Protocol, repository: Path
) -> None:
    model = next(model for model in model_names(repository) if not versions(model, repository))
    done = command("clients.status", model, "--protocol", protocol, server=server)
    assert (done.returncode, done.stderr) == (0, "")
    (row,) = done.stdout.splitlines()[2:]
    assert row.split()[:2] == [model, "UNLOADED"]


def test_status_as_json_counts_the_requests_that_were_made(
    command: Command, server: Server, protocol: Protocol
) -> None:
    def of(model: str) -> dict[str, Any]:
        answer = document(command("clients.status", model, "--protocol", protocol, "--json", server=server))
        assert answer["server"]["ready"] is True and [entry["name"] for entry in answer["models"]] == [model]
        status: dict[str, Any] = answer["models"][0]
        return status

    before = of("mnist_mlp")
    with Client(Connection("http", server.http)) as client:
        for _ in range(3):
            client.infer("mnist_mlp", np.zeros((4, 784), np.float32))
    after = of("mnist_mlp")
    grown = {key: after[key] - before[key] for key in ("requests", "failures", "inferences", "executions")}
    assert grown == {"requests": 3, "failures": 0, "inferences": 12, "executions": 3}
    assert after["mean_batch"] == round(after["inferences"] / after["executions"], 2)
    assert after["compute_infer_us"] > 0


def test_status_of_an_unknown_model_lists_the_known_ones(
    command: Command, server: Server, protocol: Protocol, repository: Path
) -> None:
    done = command("clients.status", "no_such_model", "--protocol", protocol, server=server)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"no model 'no_such_model' at {server.address(protocol)}" in done.stderr
    assert ", ".join(sorted(model_names(repository))) in done.stderr


@pytest.mark.parametrize("module", ["clients.classify", "clients.status"])
def test_help_describes_the_command_and_lists_the_connection_s_options(command: Command, module: str) -> None:
    done = command(module, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: python -m {module}")
    assert all(option in done.stdout for option in ("--protocol", "--url", "--timeout", "--retries", "--ca-file"))
