"""Signatures: a version that differs from what was signed by one byte is refused, and the file is named."""

import json
import shutil
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tools.check import __main__ as check
from tools.check import signatures as rules
from tools.cpu_config import write_cpu_config
from tools.export.publication import Evidence, publish
from tools.repository import hold, release, versions
from tools.sign import __main__ as command
from tools.sign import coverage
from tools.sign.signatures import Breach, SignatureError, breaches, new_key, refuse_unproven, sign

CONFIG = 'name: "{name}"\nbackend: "python"\nmax_batch_size: 0\ninstance_group {{ kind: KIND_GPU }}\n'
FILES = {
    "scripted/config.pbtxt": CONFIG.format(name="scripted"),
    "scripted/labels.txt": "cat\ndog\n",
    "scripted/configs/h200.pbtxt": CONFIG.format(name="scripted"),
    "scripted/1/model.pt": "weights of yesterday",
    "scripted/2/model.pt": "weights",
    "scripted/2/manifest.json": "{}",
    "python/config.pbtxt": CONFIG.format(name="python"),
    "python/1/model.py": "import step\n",
    "python/1/step.py": "VALUE = 1\n",
    "python/1/data/table.csv": "1,2\n",
}
Run = Callable[..., "Answer"]
SIGNED = [name for name in FILES if not name.startswith("scripted/1/")]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a key pair."""
    return new_key(tmp_path_factory.mktemp("keys"))[0].parent


@pytest.fixture(scope="module")
def signed(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with two models, signed."""
    repository = tmp_path_factory.mktemp("signed")
    for name, content in FILES.items():
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text(content)
    for model in ("scripted", "python"):
        write_cpu_config(model, repository)
    sign("scripted", 2, keys / "private.pem", repository)
    sign("python", 1, keys / "private.pem", repository)
    return repository


@pytest.fixture
def models(signed: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(signed, tmp_path / "models", symlinks=True))


def breaches_of_all(models: Path, keys: Path) -> list[Breach]:
    """What is wrong with the versions that a server would load."""
    return [
        breach
        for model in ("scripted", "python")
        for version in coverage.served_versions(model, models)
        for breach in breaches(model, version, keys / "public.pem", models)
    ]


def changes(models: Path, keys: Path) -> list[tuple[str, str]]:
    """The files that differ, each with the word that says how."""
    breached = breaches_of_all(models, keys)
    return [(str(breach.file.relative_to(models)), breach.found.split(" ")[1]) for breach in breached]


@dataclass(frozen=True)
class Answer:
    """What a command printed, and its exit code."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        return json.loads(self.stdout.splitlines()[-1])


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command with its arguments, in this process."""

    def main(module: ModuleType, *arguments: str | Path) -> Answer:
        monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
        return Answer(module.main(), *capsys.readouterr())

    return main


def flip(path: Path) -> None:
    """Change the last byte."""
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_versions_that_are_as_signed_have_no_breaches(models: Path, keys: Path) -> None:
    assert breaches_of_all(models, keys) == []


@pytest.mark.parametrize("name", SIGNED)
def test_one_changed_byte_is_found_and_the_file_named(name: str, models: Path, keys: Path) -> None:
    if name.endswith("config.pbtxt"):  # Still a config, so that nothing else refuses it.
        text = (models / name).read_text()
        (models / name).write_text(text.replace("max_batch_size: 0", "max_batch_size: 1"))
        write_cpu_config(name.split("/")[0], models)
    else:
        flip(models / name)
    if name.endswith("h200.pbtxt"):
        (models / name).write_text(FILES[name] + "#")
    assert changes(models, keys) == [(name, "changed")]


@pytest.mark.parametrize(
    "name",
    ["python/1/.hidden", "python/1/__pycache__/step.cpython-311.pyc", "python/0/x", "scripted/configs/a100.pbtxt"],
)
def test_an_added_file_is_found(name: str, models: Path, keys: Path) -> None:
    (models / name).parent.mkdir(exist_ok=True)
    (models / name).write_text(CONFIG.format(name=name.split("/")[0]))
    assert changes(models, keys) == [(name, "added")]


def test_a_file_behind_a_linked_folder_counts_as_added(models: Path, keys: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "step.py").touch()
    (models / "python" / "1" / "more").symlink_to(tmp_path / "elsewhere")
    assert changes(models, keys) == [("python/1/more/step.py", "added")]


@pytest.mark.parametrize("name", ["scripted/labels.txt", "scripted/2/model.pt", "python/1/step.py"])
def test_a_removed_file_is_found(name: str, models: Path, keys: Path) -> None:
    (models / name).unlink()
    assert changes(models, keys) == [(name, "missing")]


def test_a_cpu_config_that_only_claims_to_be_derived_is_found(models: Path, keys: Path) -> None:
    with (models / "python" / "configs" / "cpu.pbtxt").open("a") as stream:
        stream.write("max_batch_size: 64\n")
    assert changes(models, keys) == [("python/configs/cpu.pbtxt", "added")]


@pytest.mark.parametrize("name", ["scripted/1/model.pt", "scripted/1/new.py", "scripted/2/verification.json"])
def test_files_outside_the_signed_version_may_change(name: str, models: Path, keys: Path) -> None:
    (models / name).write_text("something else")
    assert breaches_of_all(models, keys) == []


def test_a_version_can_be_verified_while_it_is_held_and_after_its_release(models: Path, keys: Path) -> None:
    hold("scripted", 2, models)
    assert breaches("scripted", 2, keys / "public.pem", models) == []
    flip(models / "scripted" / ".held" / "2" / "model.pt")
    assert [breach.found for breach in breaches("scripted", 2, keys / "public.pem", models)] == [
        "was changed since the version was signed"
    ]
    release("scripted", 2, models)
    assert changes(models, keys) == [("scripted/2/model.pt", "changed")]


def test_a_signed_version_is_refused_under_another_number_or_name(models: Path, keys: Path) -> None:
    (models / "scripted" / "2").rename(models / "scripted" / "9")
    shutil.rmtree(models / "python")
    shutil.copytree(models / "scripted", models / "python")
    wrong = {name for name, how in changes(models, keys) if how == "added"}
    assert {"scripted/9/model.pt", "python/9/model.pt", "python/labels.txt"} <= wrong


def test_all_versions_that_a_policy_serves_must_be_signed(models: Path, keys: Path) -> None:
    config = models / "scripted" / "configs" / "cpu.pbtxt"
    config.write_text(CONFIG.format(name="scripted") + "version_policy { all { } }\n")
    sign("scripted", 2, keys / "private.pem", models)
    (breach,) = breaches_of_all(models, keys)
    assert (breach.flaw, breach.version) == ("missing", 1)
    assert breach.remedy.endswith("`python -m tools.sign scripted --version 1 --key PRIVATE.pem`")


def test_a_signature_of_another_key_is_refused(models: Path, keys: Path, tmp_path: Path) -> None:
    private, _ = new_key(tmp_path / "other")
    sign("python", 1, private, models)
    (breach,) = breaches_of_all(models, keys)
    assert breach.flaw == "invalid" and breach.file == models / "python" / "1" / "model.sig"
    assert "Key mismatch" in breach.found


def forge(bundle: dict[str, Any]) -> None:
    envelope = bundle["dsseEnvelope"]
    envelope["payload"] = envelope["payload"][:-8] + "AAAA" + envelope["payload"][-4:]


@pytest.mark.parametrize(
    "damage",
    [
        forge,
        lambda bundle: bundle["dsseEnvelope"]["signatures"].clear(),
        lambda bundle: bundle.pop("dsseEnvelope"),
        lambda bundle: bundle["verificationMaterial"].pop("publicKey"),
        lambda bundle: bundle.clear(),
    ],
)
def test_a_damaged_signature_is_refused(damage: Callable[[dict[str, Any]], None], models: Path, keys: Path) -> None:
    path = models / "python" / "1" / "model.sig"
    bundle = json.loads(path.read_text())
    damage(bundle)
    path.write_text(json.dumps(bundle))
    assert [(breach.flaw, breach.file) for breach in breaches_of_all(models, keys)] == [("invalid", path)]


def test_a_signature_of_another_version_is_refused(models: Path, keys: Path) -> None:
    sign("scripted", 1, keys / "private.pem", models)
    shutil.copy(models / "scripted" / "1" / "model.sig", models / "scripted" / "2" / "model.sig")
    assert {how for _, how in changes(models, keys)} == {"missing", "added"}


def test_only_its_owner_can_read_a_new_key_and_no_key_is_overwritten(tmp_path: Path, run: Run) -> None:
    made = run(command, "--new-key", tmp_path / "keys")
    assert made.code == 0
    private, public = (Path(path) for path in made.document.values())
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    before = private.read_bytes(), public.read_bytes()
    again = run(command, "--new-key", tmp_path / "keys")
    assert again.code == 2 and f"{private}: it exists, and keys are never overwritten" in again.stderr
    private.unlink()
    assert run(command, "--new-key", tmp_path / "keys").code == 2
    assert (before[1], False) == (public.read_bytes(), private.exists())


def test_the_command_signs_what_is_served_and_removes_pythons_caches(models: Path, keys: Path, run: Run) -> None:
    (models / "scripted" / "2" / "model.sig").unlink()
    (models / "python" / "1" / "__pycache__").mkdir()
    (models / "python" / "1" / "__pycache__" / "step.cpython-311.pyc").touch()
    answer = run(command, "--key", keys / "private.pem", "--repository", models)
    assert answer.code == 0, answer.stderr
    assert answer.document == {"signed": {"python": [1], "scripted": [2]}}
    assert breaches_of_all(models, keys) == []


def test_signing_updates_an_outdated_derived_config(models: Path, keys: Path) -> None:
    config = models / "python" / "config.pbtxt"
    config.write_text(config.read_text() + "dynamic_batching { }\n")
    sign("python", 1, keys / "private.pem", models)
    write_cpu_config("python", models)  # As a server does when it starts.
    assert breaches_of_all(models, keys) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pythn",), "no model pythn in"),
        (("python", "--version", "7"), "python has no version 7; there are: 1"),
        (("--key", "public.pem"), "public.pem cannot sign ("),
        (("--key", "none.pem"), "none.pem cannot sign (No such file or directory); expected a private key"),
    ],
)
def test_a_signature_that_cannot_be_made_says_why(
    arguments: tuple[str, ...], message: str, models: Path, keys: Path, run: Run
) -> None:
    given = [str(keys / word) if word.endswith(".pem") else word for word in arguments]
    key = [] if "--key" in given else ["--key", str(keys / "private.pem")]
    answer = run(command, *given, *key, "--repository", models)
    assert answer.code == 2 and message in answer.stderr


def test_the_check_names_rule_model_and_file(models: Path, keys: Path, run: Run) -> None:
    flip(models / "scripted" / "2" / "model.pt")
    (models / "python" / "1" / "model.sig").unlink()
    answer = run(check, models, "--json", "--public-key", keys / "public.pem")
    document = json.loads(answer.stdout)
    printed = {(entry["rule"], entry["model"], Path(entry["file"]).name) for entry in document["findings"]}
    findings = rules.check(models, keys / "public.pem")
    expected = {(finding.rule, finding.model, finding.place.file.name) for finding in findings}
    assert answer.code == 1 and expected <= printed
    assert expected == {
        ("signature-altered", "scripted", "model.pt"),
        ("signature-missing", "python", "model.sig"),
    }
    without = run(check, models, "--json").stdout
    assert not any(entry["rule"].startswith("signature-") for entry in json.loads(without)["findings"])


def test_a_check_without_a_valid_public_key_could_not_be_run(models: Path, run: Run) -> None:
    answer = run(check, models, "--public-key", models / "scripted" / "labels.txt")
    assert answer.code == 2 and "labels.txt cannot verify (" in answer.stderr


@pytest.mark.parametrize(
    "flags", [["--model-control-mode=poll"], ["--model-control-mode", "poll"], ["--model-store=x"]]
)
def test_a_server_that_would_load_unverified_versions_is_refused(flags: list[str], models: Path, keys: Path) -> None:
    with pytest.raises(SignatureError, match="loads what nobody has verified; drop it or --public-key"):
        refuse_unproven(["python"], keys / "public.pem", models, flags)
    refuse_unproven(["python"], keys / "public.pem", models, ["--model-control-mode=explicit"])


def test_an_exported_version_is_signed_before_it_is_visible(models: Path, keys: Path) -> None:
    def fill(folder: Path) -> Evidence:
        (folder / "model.py").write_text("import step\n")
        return Evidence()

    publish("python", fill, models, private_key=keys / "private.pem")
    assert versions("python", models)[-1] == 2 and breaches_of_all(models, keys) == []
    publish("python", fill, models, held=True, private_key=keys / "private.pem")
    assert breaches("python", 3, keys / "public.pem", models) == []
    with pytest.raises(SignatureError, match="cannot sign"):
        publish("python", fill, models, private_key=keys / "public.pem")
    assert versions("python", models)[-1] == 2 and not list(models.glob("*/.staging-*"))
