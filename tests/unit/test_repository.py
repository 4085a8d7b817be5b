"""The repository's layout: what counts as a model and a version, configs for the CPU, and versions that come and go."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from tools import repository as layout
from tools.cpu_config import derive_cpu_config, write_cpu_config
from tools.repository import ROOT, RepositoryError, staged_version, versions

CONFIG = """
name: "model"
backend: "pytorch"
max_batch_size: 8
input { name: "INPUT__0" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "OUTPUT__0" data_type: TYPE_FP32 dims: [ 2 ] }
instance_group { kind: KIND_GPU count: 3 gpus: [ 0, 1 ] }
parameters { key: "NOTE" value { string_value: "kept" } }
optimization { cuda { graphs: true } priority: PRIORITY_MAX }
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one model, `model`, and no version."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.pbtxt").write_text(CONFIG)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder; files with what is in them."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def add_versions(repository: Path, *numbers: int) -> None:
    for number in numbers:
        with staged_version("model", number, repository) as folder:
            (folder / "model.pt").write_text(str(number))


def test_a_config_without_a_name_has_that_of_its_folder(repository: Path) -> None:
    config = repository / "model" / "config.pbtxt"
    config.write_text(CONFIG.replace('name: "model"', "", 1))
    assert layout.read_config("model", repository=repository) == parse(CONFIG)


def parse(text: str) -> ModelConfig:
    return text_format.Parse(text, ModelConfig())


def cpu_config(repository: Path) -> Path:
    return repository / "model" / "configs" / "cpu.pbtxt"


def without_privileges(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Python code that file permissions hold for, even where the tests run as root."""
    drop = ["setpriv", "--bounding-set=-all"] if os.geteuid() == 0 else []
    command = [*drop, sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_a_model_is_a_folder_with_a_config(repository: Path) -> None:
    (repository / "notes").mkdir()
    (repository / "README.md").touch()
    (repository / "a_model").mkdir()
    (repository / "a_model" / "config.pbtxt").touch()
    assert layout.model_names(repository) == ["a_model", "model"]


def test_versions_are_the_folders_that_triton_takes_for_versions(repository: Path) -> None:
    for name in ("1", "10", "9", "0", "01", "1a", "²", "-1", ".staging-3", "configs"):
        (repository / "model" / name).mkdir()
    (repository / "model" / "7").touch()
    assert versions("model", repository) == [1, 9, 10]
    assert versions("missing", repository) == []


def test_an_unknown_model_lists_the_known_ones(repository: Path) -> None:
    with pytest.raises(RepositoryError, match=r"modle/config.pbtxt does not exist; models in .*: model$"):
        layout.read_config("modle", repository=repository)
    with pytest.raises(RepositoryError, match=r"models in .*: none$"):
        layout.read_config("model", repository=repository / "model")


@pytest.mark.parametrize(
    ("line", "place"),
    [("max_batch_sise: 8", r"2:1 : .*max_batch_sise"), ('max_batch_size: "8"', r"2:17 : .*"), ("input {", r"2:7 : .*")],
)
def test_a_config_that_is_none_is_reported_with_line_and_column(line: str, place: str, repository: Path) -> None:
    path = repository / "model" / "config.pbtxt"
    path.write_text(f'name: "model"\n{line}\n')
    with pytest.raises(RepositoryError, match=rf"^{path}:{place}"):
        layout.read_config("model", repository=repository)


def test_a_config_that_is_no_text_is_reported_with_its_path(repository: Path) -> None:
    path = repository / "model" / "config.pbtxt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RepositoryError, match=rf"^{path}:1:1 : .*Expected identifier"):
        layout.read_config("model", repository=repository)


@pytest.mark.parametrize("kind", ["KIND_GPU", "KIND_AUTO"])
def test_the_cpu_config_has_one_cpu_instance_and_is_otherwise_the_same(kind: str) -> None:
    config = parse(CONFIG.replace("KIND_GPU", kind))
    derived = derive_cpu_config(config)
    (group,) = derived.instance_group
    assert (group.kind, group.count, list(group.gpus)) == (ModelInstanceGroup.KIND_CPU, 1, [])
    assert not derived.optimization.HasField("cuda") and derived.optimization.priority
    for changed in (config, derived):
        changed.ClearField("instance_group")
        changed.optimization.ClearField("cuda")
    assert derived == config


def test_instances_that_are_on_the_cpu_anyway_keep_their_number() -> None:
    config = parse(CONFIG.replace("KIND_GPU count: 3 gpus: [ 0, 1 ]", "KIND_CPU count: 3"))
    (group,) = derive_cpu_config(config).instance_group
    assert group.count == 3


def test_the_cpu_config_is_written_once_and_again_when_the_config_changes(repository: Path) -> None:
    path = write_cpu_config("model", repository)
    assert path == cpu_config(repository)
    assert layout.read_config("model", "cpu", repository) == derive_cpu_config(parse(CONFIG))
    os.utime(path, ns=(1, 1))
    assert write_cpu_config("model", repository).stat().st_mtime_ns == 1
    changed = CONFIG.replace("max_batch_size: 8", "max_batch_size: 16")
    (repository / "model" / "config.pbtxt").write_text(changed)
    write_cpu_config("model", repository)
    assert layout.read_config("model", "cpu", repository).max_batch_size == 16
    assert path.stat().st_mode & 0o777 == 0o644
    assert [file.name for file in path.parent.iterdir()] == ["cpu.pbtxt"]


def test_a_cpu_config_of_ones_own_is_never_overwritten(repository: Path) -> None:
    path = write_cpu_config("model", repository)
    own = "".join(path.read_text().splitlines(keepends=True)[2:]).replace("count: 1", "count: 2")
    path.write_text(own)
    write_cpu_config("model", repository)
    assert path.read_text() == own
    assert layout.read_config("model", "cpu", repository).instance_group[0].count == 2


def test_a_stale_cpu_config_that_cannot_be_written_is_an_error_with_the_remedy(repository: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tools.cpu_config import write_cpu_config; "
        "write_cpu_config('model', Path(sys.argv[1]))"
    )
    path = write_cpu_config("model", repository)
    path.parent.chmod(0o555)
    assert without_privileges(program, repository).returncode == 0, "an up-to-date file needs no writing"
    before = path.read_text().replace("max_batch_size: 8", "max_batch_size: 4")
    path.write_text(before)
    answer = without_privileges(program, repository)
    assert answer.returncode != 0 and path.read_text() == before
    assert f"RepositoryError: {path} is missing or older than config.pbtxt" in answer.stderr
    assert "(Permission denied); `python -m tools.serve` writes it" in answer.stderr
    path.parent.chmod(0o755)


def test_a_version_appears_whole_and_readable_for_every_user(repository: Path) -> None:
    with staged_version("model", 2, repository) as folder:
        (folder / "model.pt").write_text("weights")
        assert versions("model", repository) == []
    assert contents(repository / "model" / "2") == {"model.pt": b"weights"}
    assert (repository / "model" / "2").stat().st_mode & 0o777 == 0o755
    assert not list((repository / "model").glob(".staging-*"))


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_while_a_version_is_staged_leaves_the_repository_as_it_was(
    error: type[BaseException], repository: Path
) -> None:
    before = contents(repository)
    with pytest.raises(error), staged_version("model", 1, repository) as folder:
        (folder / "model.pt").write_text("half")
        raise error
    assert contents(repository) == before


def test_a_version_that_exists_is_refused_and_stays(repository: Path) -> None:
    add_versions(repository, 1)
    before = contents(repository)
    with pytest.raises(RepositoryError, match="model/1 exists and versions never change"):
        add_versions(repository, 1)
        pytest.fail("the block must not be entered")
    assert contents(repository) == before


def test_of_two_that_publish_the_same_version_at_once_the_later_one_is_told(repository: Path) -> None:
    with (
        pytest.raises(RepositoryError, match="model/1 exists and versions never change"),
        staged_version("model", 1, repository) as slow,
    ):
        (slow / "model.pt").write_text("slow")
        add_versions(repository, 1)
    assert contents(repository / "model" / "1") == {"model.pt": b"1"}
    assert not list((repository / "model").glob(".staging-*"))


def test_a_version_of_a_model_without_a_folder_is_refused(repository: Path) -> None:
    with pytest.raises(RepositoryError, match="other does not exist"), staged_version("other", 1, repository):
        pytest.fail("the block must not be entered")
    assert layout.model_names(repository) == ["model"]


def test_keeping_two_versions_removes_all_but_the_two_newest(repository: Path) -> None:
    add_versions(repository, 1, 2, 9, 10)
    assert layout.keep_versions("model", 2, repository) == [1, 2]
    assert versions("model", repository) == [9, 10]
    assert layout.keep_versions("model", 2, repository) == []
    assert sorted(path.name for path in (repository / "model").iterdir()) == ["10", "9", "config.pbtxt"]


def test_removing_a_version_that_is_not_there_leaves_nothing_behind(repository: Path) -> None:
    before = contents(repository)
    with pytest.raises(FileNotFoundError):
        layout.remove_version("model", 3, repository)
    assert contents(repository) == before


def test_a_manifest_is_read_or_the_remedy_named(repository: Path) -> None:
    add_versions(repository, 1)
    with pytest.raises(RepositoryError, match=r"manifest.json does not exist; run `python -m tools.export model`"):
        layout.read_manifest("model", 1, repository)
    path = repository / "model" / "1" / "manifest.json"
    path.write_text('{"accuracy": 0.5}')
    assert layout.read_manifest("model", 1, repository) == {"accuracy": 0.5}
    path.write_text('{"accuracy": 0.')
    with pytest.raises(RepositoryError, match=r"manifest.json is damaged \(.*\); export the model again"):
        layout.read_manifest("model", 1, repository)
