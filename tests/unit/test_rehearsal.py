"""Whatever writes into a repository leaves every model loading that loads: the checker judges a copy first."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.differential.examples import BASE
from tools.check.rehearsal import rehearse
from tools.check.rules import check
from tools.check.steps import promised_batch_size
from tools.cpu_config import write_cpu_config
from tools.export.publication import Evidence, publish
from tools.repository import RepositoryError, keep_versions, versions
from tools.versions.promotion import prune, rollback, switch

X, Y = (f'{{ name: "{name}" data_type: TYPE_FP32 dims: [ 4 ] }}' for name in "XY")
TENSORS = f"input {X} output {Y} "
MEMBER = f'name: "member" {BASE}{TENSORS}'
STEP = 'model_version: VERSION input_map { key: "X" value: "X" } output_map { key: "Y" value: "Y" } '
ENSEMBLE = f"""name: "model" platform: "ensemble" max_batch_size: 8 {TENSORS}
ensemble_scheduling {{ step {{ model_name: "member" {STEP}}} }}"""
SMALLER = MEMBER.replace("max_batch_size: 8", "max_batch_size: 4")


def two_models(folder: Path, version: int = -1, versions: int = 1, policy: str = "") -> Path:
    """An ensemble that asks for a version of its member, both with a derived config."""
    for name, text in (("member", MEMBER + policy), ("model", ENSEMBLE.replace("VERSION", str(version)))):
        for number in range(1, versions + 1):
            (folder / name / str(number)).mkdir(parents=True)
            (folder / name / str(number) / "model.py").touch()
        (folder / name / "config.pbtxt").write_text(text)
        write_cpu_config(name, folder)
    assert check(folder) == []
    return folder


def everything(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def smaller(repository: Path) -> None:
    path = repository / "member" / "configs" / "cpu.pbtxt"
    path.unlink()
    path.write_text(SMALLER)


CHANGES: dict[str, Callable[[Path], object]] = {
    "keep": lambda folder: rehearse(folder, lambda place: keep_versions("member", 1, place)),
    "switch": lambda folder: switch(None, "member", 1, folder),
    "rollback": lambda folder: rollback(None, "member", folder),
    "publish": lambda folder: publish("member", fill, folder, rehearse=rehearse),
}


def fill(folder: Path) -> Evidence:
    (folder / "model.py").touch()
    return Evidence()


def test_a_config_that_allows_less_than_an_ensemble_promises_is_refused(tmp_path: Path) -> None:
    folder = two_models(tmp_path / "models")
    before = everything(folder)
    with pytest.raises(
        RepositoryError,
        match="refused, as model would not load with --model-config-name=cpu: max_batch_size 8, while 'member' takes 4 "
        "in configs/cpu.pbtxt; expected at most 4",
    ):
        rehearse(folder, smaller)
    assert everything(folder) == before


@pytest.mark.parametrize("name", ["switch", "rollback", "publish"])
def test_a_version_that_an_ensemble_asks_for_stays_the_served_one(name: str, tmp_path: Path) -> None:
    last = 1 if name == "publish" else 2
    folder = two_models(tmp_path / "models", version=last, versions=last)
    before = everything(folder)
    with pytest.raises(RepositoryError, match="refused, as model would not load: "):
        CHANGES[name](folder)
    assert everything(folder) == before


@pytest.mark.parametrize("name", ["keep", "switch", "rollback", "publish"])
def test_what_breaks_nothing_is_done(name: str, tmp_path: Path) -> None:
    folder = two_models(tmp_path / "models", versions=2)
    CHANGES[name](folder)
    assert check(folder) == []
    assert versions("member", folder) == {"keep": [1, 2], "publish": [1, 2, 3]}.get(name, [1])


def test_pruning_spares_what_an_ensemble_asks_for(tmp_path: Path) -> None:
    folder = two_models(tmp_path / "models", version=1, versions=4, policy="version_policy { all { } }")
    with pytest.raises(RepositoryError, match="refused, as model would not load: version 1 of 'member'"):
        prune("member", 1, folder)
    assert versions("member", folder) == [1, 2, 3, 4]


def test_what_does_not_load_already_is_no_reason_to_refuse(tmp_path: Path) -> None:
    folder = two_models(tmp_path / "models")
    (folder / "member" / "config.pbtxt").write_text(SMALLER)
    write_cpu_config("member", folder)
    rehearse(folder, smaller)


def test_the_first_version_of_a_model_that_triton_refuses_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "config.pbtxt").write_text('backend: "python" max_batch_size: -1')
    with pytest.raises(RepositoryError, match="refused, as model would not load: max_batch_size: -1"):
        publish("model", fill, folder, rehearse=rehearse)
    assert versions("model", folder) == []


def test_fixes_are_made_when_they_break_nothing(tmp_path: Path, command: Command) -> None:
    folder = two_models(tmp_path / "models")
    config = folder / "member" / "config.pbtxt"
    config.write_text(MEMBER.replace("max_batch_size", "max_batch_siz"))
    fixed = command("tools.check", folder, "--fix")
    assert fixed.returncode == 0 and fixed.stderr.count("max_batch_siz → max_batch_size") == 1
    assert config.read_text() == MEMBER and check(folder) == []


def test_what_ensembles_promise_bounds_a_members_batches(tmp_path: Path) -> None:
    folder = two_models(tmp_path / "models")
    assert [promised_batch_size(name, folder) for name in ("member", "model")] == [8, 0]
    (folder / "model" / "configs" / "large.pbtxt").write_text(ENSEMBLE.replace("VERSION", "-1").replace("8", "16"))
    assert promised_batch_size("member", folder) == 16
