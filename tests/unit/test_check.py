"""tools.check on repositories of every kind: which rules they break, where, and in which words."""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.differential.examples import GOOD, write_example, write_model
from tools.check.finding import EXAMPLES, Finding, Rule
from tools.check.page import page
from tools.check.rules import RULES, SUBJECTS, Scope, check
from tools.cpu_config import DERIVED
from tools.repository import ROOT, read_config


def broken_rules(
    folder: Path, text: str | None = GOOD, files: Iterable[str] = ("1/model.pt",), hardware: str = "auto"
) -> list[str]:
    """The rules that a model breaks."""
    return [finding.rule for finding in check(write_model(folder, text, files), Scope(hardware))]


def first_finding(folder: Path, text: str) -> Finding:
    """The first finding about a config."""
    return check(write_model(folder, text))[0]


def test_a_good_model_has_no_finding(tmp_path: Path) -> None:
    assert broken_rules(tmp_path) == []


@pytest.mark.parametrize("rule", [rule for rule in RULES.values() if rule.example], ids=lambda rule: rule.id)
def test_the_example_of_a_rule_breaks_it(rule: Rule, tmp_path: Path) -> None:
    write_example(rule, tmp_path)
    assert rule.id in {finding.rule for finding in check(tmp_path)}


def test_rule_ids_are_unique_and_in_kebab_case() -> None:
    ids = [rule.id for rules in SUBJECTS.values() for rule in rules]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", name) for name in ids)


def test_the_page_about_the_rules_is_up_to_date() -> None:
    assert (ROOT / "docs" / "check-rules.md").read_text() == page(SUBJECTS), "run the command in its first line"


def test_every_example_belongs_to_a_rule_and_few_rules_have_none() -> None:
    examples = {file.stem for file in EXAMPLES.glob("*.pbtxt")}
    assert examples <= RULES.keys()
    about_files = {"version", "model", "config", "torchscript", "signature"}
    others = {"no-gpu", "no-gpu-setting", "backend-not-installed", "quantized-on-gpu", "cuda-on-cpu"}
    others |= {"threads-differ", "cache-no-hits", "step-model-broken"}
    # The release that all examples are tried on refuses the one and takes the other.
    others |= {"aoti-batch", "release-removed"}
    assert {name for name in RULES.keys() - examples if name.split("-")[0] not in about_files} == others


@pytest.mark.parametrize(
    ("files", "rules"),
    [
        ((), ["version-missing"]),
        (("01/model.pt",), ["version-missing", "version-passed-over"]),
        (("v1/model.pt",), ["version-missing", "version-passed-over"]),
        (("1/model.onnx",), ["model-file-missing"]),
        (("1/model.pt", "2/other"), ["model-file-missing"]),
        (("1/other", "2/model.pt"), []),
        (("1/model.pt", "1.old/model.pt"), []),
        (("1.old/model.pt",), ["version-odd"]),
        (("-1/model.pt", "1/model.pt"), ["version-negative"]),
        (("1/model.pt", "99999999999999999999/model.pt"), ["version-huge"]),
        (("1/model.pt", "configs/notes.txt", "warmup/x", "notes/x"), []),
    ],
)
def test_folders_are_versions_as_triton_sees_them(files: tuple[str, ...], rules: list[str], tmp_path: Path) -> None:
    assert sorted(broken_rules(tmp_path, files=files)) == rules


def test_files_that_a_config_names_must_exist(tmp_path: Path) -> None:
    labels = GOOD.replace("dims: [ 2 ]", 'dims: [ 2 ] label_filename: "classes.txt"')
    assert broken_rules(tmp_path / "a", labels) == ["labels-missing"]
    warmup = GOOD.replace("zero_data: true", 'input_data_file: "one.raw"')
    assert broken_rules(tmp_path / "b", warmup) == ["warmup-file"]
    assert broken_rules(tmp_path / "c", warmup, ("1/model.pt", "warmup/one.raw")) == ["warmup-file"]
    (tmp_path / "c" / "model" / "warmup" / "one.raw").write_bytes(b"\0" * 16)
    assert check(tmp_path / "c") == []


@pytest.mark.parametrize(("size", "remedy"), [(8, "dims: [ 1 ] reshape { shape: [ ] }"), (0, "scalar: dims: [ 1 ]")])
def test_a_tensor_without_dims_is_told_what_a_scalar_needs(size: int, remedy: str, tmp_path: Path) -> None:
    text = GOOD.replace("max_batch_size: 8", f"max_batch_size: {size}").replace("dims: [ 2 ]", "dims: [ ]")
    assert first_finding(tmp_path, text).remedy.endswith(remedy)


def test_a_missing_config_and_one_that_is_no_file_are_findings(tmp_path: Path) -> None:
    assert broken_rules(tmp_path, None) == ["config-missing"]
    (tmp_path / "model" / "config.pbtxt").mkdir()
    assert [finding.rule for finding in check(tmp_path)] == ["config-unreadable"]


def test_a_config_that_is_not_utf_8_is_read_with_a_warning_and_keeps_its_bytes_when_fixed(
    tmp_path: Path, command: Command
) -> None:
    write_model(tmp_path)
    config = tmp_path / "model" / "config.pbtxt"
    comment, text = b"# \xc4\xe3\xba\xc3\n", GOOD.encode()
    config.write_bytes(comment + text.replace(b"TYPE_FP32", b"FP32"))
    result = command("tools.check", tmp_path, "--fix")
    assert config.read_bytes() == comment + text
    assert result.returncode == 0 and "config.pbtxt:1:3: warning: the byte 0xc4 [config-encoding]" in result.stdout
    assert read_config("model", repository=tmp_path).max_batch_size == 8
    config.write_bytes(b'name: "\xff"' + text.partition(b"\n")[2])
    assert [(finding.rule, finding.found) for finding in check(tmp_path)] == [
        ("name-folder", "name '\ufffd' in folder 'model'")
    ]


def test_a_version_policy_that_names_a_missing_version_is_told_which_exist(tmp_path: Path) -> None:
    some = GOOD + "version_policy { specific { versions: [ 1, 3 ] } }"
    (finding,) = check(write_model(tmp_path, some, ("1/model.pt", "2/model.pt")))
    assert (finding.rule, finding.severity) == ("version-not-there", "warning")
    assert finding.found == "version 3 has no folder" and finding.expected == "existing versions: 1, 2"
    assert broken_rules(tmp_path, GOOD + "version_policy { specific { versions: 3 } }") == [
        "version-missing",
        "version-not-there",
    ]


def test_a_finding_has_the_place_of_its_field(tmp_path: Path) -> None:
    text = GOOD.replace("data_type: TYPE_FP32 dims: [ 4 ] } ]", "\n  data_type: TYPE_FP32\n  dims: [ 4, 0 ] } ]")
    finding = first_finding(tmp_path, text)
    assert (finding.rule, finding.place.line, finding.place.column) == ("dim-range", 6, 14)
    assert finding.place.file == tmp_path / "model" / "config.pbtxt"
    assert finding.message == (
        "input 'INPUT__0' has dimension 0; expected 1 or more, or -1; set the size, or -1 if it varies"
    )


def test_a_comment_suppresses_a_finding_on_its_line_and_on_the_next(tmp_path: Path) -> None:
    warned = 'name: "model"\nbackend: "pytoch"'
    assert broken_rules(tmp_path, warned) == ["backend-unfamiliar"]
    assert broken_rules(tmp_path, warned + "  # triton-check: ignore=backend-unfamiliar") == []
    assert broken_rules(tmp_path, warned.replace("\n", "\n# triton-check: ignore=syntax,backend-unfamiliar\n")) == []
    assert broken_rules(tmp_path, warned + "  # triton-check: ignore=syntax") == ["backend-unfamiliar"]
    assert broken_rules(tmp_path, warned + "\n\n# triton-check: ignore=backend-unfamiliar") == ["backend-unfamiliar"]


def test_a_config_variant_is_checked_and_so_are_ensembles_with_it(tmp_path: Path) -> None:
    write_example(RULES["ensemble-type"], tmp_path)
    good = (tmp_path / "model" / "config.pbtxt").read_text().replace("FP16", "FP32")
    (tmp_path / "model" / "config.pbtxt").write_text(good)
    shutil.rmtree(tmp_path / "twin")
    assert check(tmp_path) == []
    variant = tmp_path / "member" / "configs" / "small.pbtxt"
    variant.parent.mkdir()
    variant.write_text((tmp_path / "member" / "config.pbtxt").read_text().replace("FP32", "FP16"))
    places = {(finding.rule, finding.place.file.parent.name) for finding in check(tmp_path)}
    assert places == {("ensemble-type", "model")}
    variant.write_text("{")
    broken = {(finding.rule, finding.place.file.name) for finding in check(tmp_path)}
    assert broken == {("syntax", "small.pbtxt"), ("step-model-broken", "config.pbtxt")}


def test_a_derived_variant_repeats_nothing(tmp_path: Path) -> None:
    wrong = GOOD.replace("dims: [ 2 ]", "dims: [ 0 ]")
    write_model(tmp_path, wrong, ("1/model.pt", "configs/cpu.pbtxt"))
    variant = tmp_path / "model" / "configs" / "cpu.pbtxt"
    for head, count in (("", 2), (f"{DERIVED} for hosts without a GPU\n", 1)):
        variant.write_text(head + wrong)
        assert [finding.rule for finding in check(tmp_path)] == ["dim-range"] * count


def test_hardware_decides_what_is_reported_about_gpus(tmp_path: Path) -> None:
    gpu = GOOD + "instance_group { kind: KIND_GPU }\noptimization { cuda { graphs: true } }"
    assert broken_rules(tmp_path, gpu) == broken_rules(tmp_path, gpu, hardware="gpu") == []
    assert broken_rules(tmp_path, gpu, hardware="cpu") == ["no-gpu", "no-gpu-setting"]
    chosen = GOOD + "instance_group { gpus: 1 }"
    assert broken_rules(tmp_path, chosen) == [] and broken_rules(tmp_path, chosen, hardware="cpu") == ["no-gpu"]
    write_model(tmp_path, gpu, ("configs/cpu.pbtxt",))
    (tmp_path / "model" / "configs" / "cpu.pbtxt").write_text(GOOD)
    assert check(tmp_path, Scope("cpu")) == []


def test_each_element_of_a_list_has_its_own_place(tmp_path: Path) -> None:
    text = GOOD.replace("input [ {", 'input [\n  { name: "A" dims: 1 data_type: TYPE_FP32 },\n  {').replace(
        '"INPUT__0" d', '"" d'
    )
    finding = first_finding(tmp_path, text)
    assert (finding.rule, finding.place.line, finding.place.column) == ("tensor-name", 6, 3)


def test_a_backend_that_is_not_installed_is_an_error_if_the_installed_ones_are_known(tmp_path: Path) -> None:
    write_model(tmp_path)
    assert check(tmp_path, Scope(installed=frozenset({"pytorch"}))) == []
    (finding,) = check(tmp_path, Scope(installed=frozenset({"python"})))
    assert (finding.rule, finding.severity, finding.place.line) == ("backend-not-installed", "error", 2)
    (tmp_path / "model" / "1" / "libtriton_pytorch.so").write_text("")
    assert check(tmp_path, Scope(installed=frozenset({"python"}))) == []


def test_a_model_that_is_not_built_yet_is_no_finding(tmp_path: Path) -> None:
    write_model(tmp_path, files=())
    assert [finding.rule for finding in check(tmp_path)] == ["version-missing"]
    assert check(tmp_path, Scope(unbuilt=frozenset({"model"}))) == []
    # Its config for a CPU comes with its version.
    config = tmp_path / "model" / "config.pbtxt"
    config.write_text(config.read_text() + "instance_group { kind: KIND_GPU }\n")
    assert "no-gpu" in [finding.rule for finding in check(tmp_path, Scope(hardware="cpu"))]
    assert check(tmp_path, Scope(hardware="cpu", unbuilt=frozenset({"model"}))) == []


def test_models_of_one_process_must_agree_on_threads(tmp_path: Path) -> None:
    parameter = 'parameters { key: "INTRA_OP_THREAD_COUNT" value { string_value: "%d" } }'
    for name, count in (("a", 1), ("b", 1), ("model", 4)):
        write_model(tmp_path / name, GOOD.replace('"model"', f'"{name}"') + parameter % count)
        (tmp_path / name / "model").rename(tmp_path / f".{name}")
        (tmp_path / name).rmdir()
        (tmp_path / f".{name}").rename(tmp_path / name)
    (finding,) = check(tmp_path)
    assert (finding.rule, finding.model, finding.found) == ("threads-differ", "model", "INTRA_OP_THREAD_COUNT 4")
