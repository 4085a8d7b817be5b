"""tools.check on repositories of every kind: what it finds, where, in which words, and in which form."""

import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tests.conftest import Command
from tests.differential.examples import torchscript, write_example
from tests.differential.seeds import of_this_repository, written_by_hand
from tools.checks.finding import Finding, Rule
from tools.checks.page import page
from tools.checks.rules import RULES, SUBJECTS, Scope, check
from tools.checks.source import read
from tools.checks.tokens import TextSyntaxError, tokens
from tools.repository import ROOT

GOOD = """name: "model"
backend: "pytorch"
max_batch_size: 8
input [ { name: "INPUT__0" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "OUTPUT__0" data_type: TYPE_FP32 dims: [ 2 ] } ]
dynamic_batching { }
model_warmup {
  name: "one"
  batch_size: 1
  inputs { key: "INPUT__0" value { data_type: TYPE_FP32 dims: [ 4 ] zero_data: true } }
}
"""


def write(folder: Path, text: str | None = GOOD, files: Iterable[str] = ("1/model.pt",)) -> Path:
    """A model in a repository; returns the repository."""
    for file in files:
        (folder / "model" / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / "model" / file).write_bytes(torchscript() if file.endswith(".pt") else b"")
    (folder / "model").mkdir(exist_ok=True, parents=True)
    if text is not None:
        (folder / "model" / "config.pbtxt").write_text(text)
    return folder


def found(
    folder: Path, text: str | None = GOOD, files: Iterable[str] = ("1/model.pt",), hardware: str = "auto"
) -> list[str]:
    """The rules that a model breaks."""
    return [finding.rule for finding in check(write(folder, text, files), Scope(hardware))]


def first(folder: Path, text: str) -> Finding:
    """The first finding about a config."""
    return check(write(folder, text))[0]


def test_a_good_model_has_no_finding(tmp_path: Path) -> None:
    assert found(tmp_path) == []


@pytest.mark.parametrize("rule", [rule for rule in RULES.values() if rule.example], ids=lambda rule: rule.id)
def test_the_example_of_a_rule_breaks_it(rule: Rule, tmp_path: Path) -> None:
    write_example(rule, tmp_path)
    assert rule.id in {finding.rule for finding in check(tmp_path)}


def test_rules_have_ids_of_their_own_in_kebab_case() -> None:
    ids = [rule.id for rules in SUBJECTS.values() for rule in rules]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", name) for name in ids)


def test_the_page_about_the_rules_is_up_to_date() -> None:
    assert (ROOT / "docs" / "check-rules.md").read_text() == page(SUBJECTS), "run the command in its first line"


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
def test_folders_are_versions_as_triton_takes_them(files: tuple[str, ...], rules: list[str], tmp_path: Path) -> None:
    assert sorted(found(tmp_path, files=files)) == rules


def test_files_that_a_config_names_must_be_there(tmp_path: Path) -> None:
    labels = GOOD.replace("dims: [ 2 ]", 'dims: [ 2 ] label_filename: "classes.txt"')
    assert found(tmp_path / "a", labels) == ["labels-missing"]
    warmup = GOOD.replace("zero_data: true", 'input_data_file: "one.raw"')
    assert found(tmp_path / "b", warmup) == ["warmup-file"]
    assert found(tmp_path / "c", warmup, ("1/model.pt", "warmup/one.raw")) == ["warmup-file"]
    (tmp_path / "c" / "model" / "warmup" / "one.raw").write_bytes(b"\0" * 16)
    assert check(tmp_path / "c") == []


def test_a_folder_without_a_config_and_a_config_of_no_text_are_findings(tmp_path: Path) -> None:
    assert found(tmp_path, None) == ["config-missing"]
    (tmp_path / "model" / "config.pbtxt").write_bytes(b'name: "\xff"')
    assert [finding.rule for finding in check(tmp_path)] == ["config-unreadable"]


def test_a_version_policy_that_names_what_is_not_there_is_told_what_is(tmp_path: Path) -> None:
    some = GOOD + "version_policy { specific { versions: [ 1, 3 ] } }"
    (finding,) = check(write(tmp_path, some, ("1/model.pt", "2/model.pt")))
    assert (finding.rule, finding.severity) == ("version-not-there", "warning")
    assert finding.found == "version 3 has no folder" and finding.expected == "versions that exist: 1, 2"
    assert found(tmp_path, GOOD + "version_policy { specific { versions: 3 } }") == [
        "version-missing",
        "version-not-there",
    ]


def test_a_finding_has_the_place_of_what_it_is_about(tmp_path: Path) -> None:
    text = GOOD.replace("data_type: TYPE_FP32 dims: [ 4 ] } ]", "\n  data_type: TYPE_FP32\n  dims: [ 4, 0 ] } ]")
    finding = first(tmp_path, text)
    assert (finding.rule, finding.place.line, finding.place.column) == ("dim-range", 6, 14)
    assert finding.place.file == tmp_path / "model" / "config.pbtxt"
    assert finding.message == (
        "input 'INPUT__0' has the dimension 0; expected 1 or more, or -1; set the size, or -1 where it varies"
    )


@pytest.mark.parametrize(
    ("wrong", "rule", "remedy"),
    [
        ("max_batchsize: 8", "unknown-field", "did you mean max_batch_size?"),
        ("dynamic_batcher { }", "unknown-field", "did you mean dynamic_batching?"),
        ("instance_group { kind: KIND_GPUS }", "unknown-value", "did you mean KIND_GPU?"),
        ("output { data_type: FP32 }", "unknown-value", "did you mean TYPE_FP32?"),
        ("output { data_type: type_fp32 }", "unknown-value", "did you mean TYPE_FP32?"),
        ("input { dim: [ 1 ] }", "unknown-field", "did you mean dims?"),
        ("default_model_filename: model", "wrong-type", 'write "model"'),
    ],
)
def test_a_slip_is_told_what_was_probably_meant(wrong: str, rule: str, remedy: str, tmp_path: Path) -> None:
    finding = first(tmp_path, 'name: "model"\nbackend: "pytorch"\n' + wrong)
    assert (finding.rule, finding.place.line, finding.remedy) == (rule, 3, remedy)


def test_one_run_shows_all_slips(tmp_path: Path) -> None:
    text = 'nam: "model"\nbackend: "pytorch"\nmax_batch_size: many\ninput [ { nme: [ "a", "b" ] type { x: <> } } ]'
    assert found(tmp_path, text) == ["unknown-field", "wrong-type", "unknown-field", "unknown-field"]


@pytest.mark.parametrize(
    ("text", "line", "column", "what"),
    [
        ('name: "model', 1, 7, 'a string that does not end on its line; expected a closing "'),
        ('name: "m"\n  input [ { } ', 2, 15, "the end of the file; expected ',' or ']'"),
        ('name: "m"\ninput { name: "A" ', 2, 19, "the end of the file; expected a field name or '}'"),
        ('name = "m"', 1, 6, "'='; expected ':'"),
        ("max_batch_size: 8name: 1", 1, 18, "'8name'; expected a number or a name"),
        ("input { dims: [ 1, ] }", 1, 20, "']'; expected a value"),
        ("\n\x01", 2, 1, "the character '\\x01'; expected a field name, a value or a comment"),
    ],
)
def test_broken_syntax_is_found_where_it_breaks(text: str, line: int, column: int, what: str) -> None:
    (finding,) = [each for each in read(Path("config.pbtxt"), text).findings if each.rule == "syntax"]
    assert (finding.place.line, finding.place.column) == (line, column)
    assert f"{finding.found}; expected {finding.expected}" == what


def test_configs_are_read_as_protobuf_reads_them() -> None:
    for seed in (*written_by_hand(), *of_this_repository()):
        for config in seed.configs.values():
            source = read(Path("config.pbtxt"), text_format.MessageToString(config))
            assert source.findings == () and source.config == config


@pytest.mark.parametrize(
    "text",
    ['name: "a" \'b\' "\\x63\\144\\n"', "max_batch_size: 0x10", "max_batch_size: -010", "max_batch_size: 7;",
     "dynamic_batching: < preserve_ordering: t >, name: 'm'", "input: [ ]", "input { dims: [] dims: 3 dims: [4,5] }",
     "sequence_batching { direct { minimum_slot_utilization: 5e-1f } }", "# a comment\nname: 'm' # another",
     'parameters { key: "a" value { string_value: "1" } } parameters { value { string_value: "2" } key: "a" }'],
)  # fmt: skip
def test_the_ways_to_write_a_value_are_those_of_protobuf(text: str) -> None:
    source = read(Path("config.pbtxt"), text)
    assert source.findings == ()
    assert source.config == text_format.Parse(text.replace("-010", "-8").replace("f }", " }"), ModelConfig())


def test_a_string_with_an_escape_that_does_not_exist_is_refused() -> None:
    (finding,) = read(Path("config.pbtxt"), 'name: "\\q"').findings
    assert finding.rule == "syntax"
    with pytest.raises(TextSyntaxError, match=r"1:1: a string that does not end"):
        list(tokens("'a\n'"))


def test_a_comment_suppresses_a_finding_on_its_line_and_on_the_next(tmp_path: Path) -> None:
    warned = 'name: "model"\nbackend: "pytoch"'
    assert found(tmp_path, warned) == ["backend-unfamiliar"]
    assert found(tmp_path, warned + "  # triton-check: ignore=backend-unfamiliar") == []
    assert found(tmp_path, warned.replace("\n", "\n# triton-check: ignore=syntax,backend-unfamiliar\n")) == []
    assert found(tmp_path, warned + "  # triton-check: ignore=syntax") == ["backend-unfamiliar"]
    assert found(tmp_path, warned + "\n\n# triton-check: ignore=backend-unfamiliar") == ["backend-unfamiliar"]


def test_a_variant_is_checked_too_and_an_ensemble_with_it(tmp_path: Path) -> None:
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


def test_hardware_decides_what_is_said_about_gpus(tmp_path: Path) -> None:
    gpu = GOOD + "instance_group { kind: KIND_GPU }\noptimization { cuda { graphs: true } }"
    assert found(tmp_path, gpu) == found(tmp_path, gpu, hardware="gpu") == []
    assert found(tmp_path, gpu, hardware="cpu") == ["no-gpu", "no-gpu-setting"]
    write(tmp_path, gpu, ("configs/cpu.pbtxt",))
    (tmp_path / "model" / "configs" / "cpu.pbtxt").write_text(GOOD)
    assert check(tmp_path, Scope("cpu")) == []


def test_backends_that_are_not_installed_are_errors_where_it_is_known_which_are(tmp_path: Path) -> None:
    write(tmp_path)
    assert check(tmp_path, Scope(installed=frozenset({"pytorch"}))) == []
    (finding,) = check(tmp_path, Scope(installed=frozenset({"python"})))
    assert (finding.rule, finding.severity, finding.place.line) == ("backend-not-installed", "error", 2)
    (tmp_path / "model" / "1" / "libtriton_pytorch.so").write_text("")
    assert check(tmp_path, Scope(installed=frozenset({"python"}))) == []


def test_a_model_that_is_not_made_yet_is_no_finding(tmp_path: Path) -> None:
    write(tmp_path, files=())
    assert [finding.rule for finding in check(tmp_path)] == ["version-missing"]
    assert check(tmp_path, Scope(unbuilt=frozenset({"model"}))) == []


def test_models_of_one_process_must_agree_on_threads(tmp_path: Path) -> None:
    parameter = 'parameters { key: "INTRA_OP_THREAD_COUNT" value { string_value: "%d" } }'
    for name, count in (("a", 1), ("b", 1), ("model", 4)):
        write(tmp_path / name, GOOD.replace('"model"', f'"{name}"') + parameter % count)
        (tmp_path / name / "model").rename(tmp_path / f".{name}")
        (tmp_path / name).rmdir()
        (tmp_path / f".{name}").rename(tmp_path / name)
    (finding,) = check(tmp_path)
    assert (finding.rule, finding.model, finding.found) == ("threads-differ", "model", "INTRA_OP_THREAD_COUNT 4")


def test_this_repository_has_no_finding(command: Command) -> None:
    answer = command("tools.check", "--strict")
    assert answer.returncode == 0, answer.stdout
    summary = json.loads(answer.stdout)
    assert (summary["error"], summary["warning"], summary["info"]) == (0, 0, 0) and summary["models"] > 10


def test_the_exit_code_and_the_last_line_say_what_was_found(tmp_path: Path, command: Command) -> None:
    write(tmp_path, GOOD.replace("pytorch", "pytoch") + "response_cache { enabled: true }")
    answer = command("tools.check", tmp_path)
    assert answer.returncode == 1 and answer.stderr == ""
    head, expected, remedy, last = answer.stdout.splitlines()
    config = tmp_path / "model" / "config.pbtxt"
    assert head == f"{config}:12:18: error: field 'enabled' [unknown-field]"
    assert (expected, remedy) == ("    expected a field of ModelResponseCache", "    did you mean enable?")
    assert json.loads(last)["error"] == 1
    write(tmp_path, GOOD.replace("pytorch", "pytoch"))
    assert command("tools.check", tmp_path).returncode == 0
    assert command("tools.check", tmp_path, "--strict").returncode == 1


def test_a_command_that_cannot_check_says_why(tmp_path: Path, command: Command) -> None:
    for arguments, message in [
        ((tmp_path / "none",), f"error: {tmp_path / 'none'} is no folder; give the model repository's path"),
        ((tmp_path,), f"error: {tmp_path} holds no model; a model is a folder with a config.pbtxt"),
    ]:
        answer = command("tools.check", *arguments)
        assert (answer.returncode, answer.stderr.strip(), answer.stdout) == (2, message, "")
    answer = command("tools.check", write(tmp_path), "--model", "modle")
    assert answer.returncode == 2 and f"no model modle in {tmp_path}; there are model" in answer.stderr


def test_findings_are_given_as_json_and_as_sarif(tmp_path: Path, command: Command) -> None:
    write(tmp_path, GOOD.replace("max_batch_size: 8", "max_batch_size: -1"), ("2/x",))
    document = json.loads(command("tools.check", tmp_path, "--json").stdout)
    assert document["error"] == 2
    missing, finding = sorted(document["findings"], key=lambda each: str(each["line"]))
    assert (missing["rule"], missing["line"]) == ("model-file-missing", 0)
    assert (finding["rule"], finding["line"], finding["model"]) == ("max-batch-size", 3, "model")
    log = json.loads(command("tools.check", tmp_path, "--sarif").stdout)
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == list(RULES)
    results = {result["ruleId"]: result for result in run["results"]}
    assert set(results) == {"model-file-missing", "max-batch-size"}
    assert all(
        rules[result["ruleIndex"]]["id"] == name and result["level"] == "error" for name, result in results.items()
    )
    whole, place = (
        results[name]["locations"][0]["physicalLocation"] for name in ("model-file-missing", "max-batch-size")
    )
    assert "region" not in whole and place["region"] == {"startLine": 3, "startColumn": 1}


def test_one_model_can_be_asked_for(tmp_path: Path, command: Command) -> None:
    write_example(RULES["max-batch-size"], tmp_path)
    assert command("tools.check", tmp_path, "--model", "member").returncode == 0
    assert command("tools.check", tmp_path, "--model", "member", "--model", "model").returncode == 1
