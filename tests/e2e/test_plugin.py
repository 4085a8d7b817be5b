"""The pytest plugin, in a project that knows nothing of ours and has a package called `tools`: tests/sample_project."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from clients.golden import Case, Golden, write
from hatch_build import PACKAGE, assemble
from tests.conftest import served
from tools import torchscript
from tools.repository import ROOT
from tools.serve.native import CACHE
from tools.serve.tritonserver import Options

SAMPLE = ROOT / "tests" / "sample_project"
ONES = np.ones((1, 3), np.float32)
Run = Callable[..., subprocess.CompletedProcess[str]]


class Linear(torch.nn.Module):
    """What the sample project expects."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x + 1


class Mixing(torch.nn.Module):
    """Every row gets something of the first."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x + 1 + x[:1]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sample project with its version of `linear`."""
    copy = shutil.copytree(SAMPLE, tmp_path_factory.mktemp("sample") / "project")
    (copy / "models" / "linear" / "1").mkdir()
    version = copy / "models" / "linear" / "1"
    torchscript.save(Linear(), version / "model.pt")
    # As `tools.export` publishes it.
    write(version / "golden.npz", Golden(1e-3, (Case({"INPUT__0": ONES}, {"OUTPUT__0": 3 * ONES}),)))
    return copy


@pytest.fixture(scope="module")
def run(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run pytest there, with ours beside it as the wheel has it."""
    site = tmp_path_factory.mktemp("site")
    assemble(ROOT, site / PACKAGE)

    def pytest_there(*arguments: str, cwd: Path = project) -> subprocess.CompletedProcess[str]:
        plugin = ("-p", f"{PACKAGE}.tools.testing.plugin", "-p", "no:cacheprovider")
        return subprocess.run(
            [sys.executable, "-m", "pytest", *plugin, *arguments],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(site), "TRITON_NATIVE_CACHE": str(CACHE)},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return pytest_there


def files(folder: Path) -> set[str]:
    """All files, but what Python keeps of the project's own code."""
    found = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {str(path) for path in found if path.parts[0] == "models" or "__pycache__" not in path.parts}


def test_a_suite_runs_in_process_and_records_then_on_the_server_by_two_workers(run: Run, project: Path) -> None:
    before = files(project)
    recorded = run("--triton-record")
    assert "7 passed" in recorded.stdout, recorded.stdout
    assert files(project) - before == {"checks/golden/test_served.test_answers_stay.linear.npz"}
    replayed = run("--triton-real", "-n", "2")
    assert "7 passed" in replayed.stdout, replayed.stdout


def test_a_test_that_fails_shows_the_log_of_the_server(run: Run) -> None:
    shown = run("checks/failing.py").stdout
    assert "3 failed" in shown
    assert "golden/failing.test_unrecorded.linear.npz does not exist; record it with --triton-record" in shown
    refused, wrong = shown.split("_ test_wrong _")
    assert "X must be finite" in refused
    assert "Triton's log" in refused and "somebody sent what is not finite" in refused
    assert "scale's answer: Y differs by 2; allowed is 1e-05" in wrong and "not finite" not in wrong


def test_a_running_server_is_judged_by_its_own_answers(run: Run, project: Path, tmp_path: Path) -> None:
    models = shutil.copytree(project / "models", tmp_path / "models")
    torchscript.save(Mixing(), models / "linear" / "1" / "model.pt")
    with served(Options(models)) as server:
        shown = run("--triton-url", server.http, "--triton-grpc-url", server.grpc, "checks/test_served.py").stdout
    assert "3 failed, 1 passed" in shown, shown
    assert "linear's answer: OUTPUT__0 differs by" in shown
    assert "gets another answer over http, batch 4, 1 at once than alone: OUTPUT__0 is" in shown
    assert "linear's answer to golden request 0: OUTPUT__0 differs by" in shown


def test_it_costs_others_nothing_and_says_what_is_missing(run: Run, tmp_path: Path) -> None:
    test = "def test_light(): assert not {'numpy', 'tritonclient', 'torch'} & __import__('sys').modules.keys()\n"
    (tmp_path / "test_other.py").write_text(f"{test}def test_server(triton_server): pass\n")
    shown = run(cwd=tmp_path).stdout
    assert "1 passed, 1 error" in shown and "triton:" not in shown, shown
    assert "no repository: set triton_repository in pytest.ini, or give --triton-repository" in shown
    assert "Triton's log" not in shown
