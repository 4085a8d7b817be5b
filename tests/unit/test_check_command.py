"""python -m tools.check as people and scripts run it: exit codes, text, JSON, SARIF, and errors."""

import json
from pathlib import Path

from tests.conftest import Command
from tests.differential.examples import GOOD, write_example, write_model
from tools.check.rules import RULES


def test_this_repository_has_no_findings(command: Command) -> None:
    answer = command("tools.check", "--strict")
    assert answer.returncode == 0, answer.stdout
    summary = json.loads(answer.stdout)
    assert (summary["error"], summary["warning"], summary["info"]) == (0, 0, 0) and summary["models"] > 10


def test_the_exit_code_and_the_last_line_sum_up_the_findings(tmp_path: Path, command: Command) -> None:
    write_model(tmp_path, GOOD.replace("pytorch", "pytoch") + "response_cache { enabled: true }")
    answer = command("tools.check", tmp_path)
    assert answer.returncode == 1 and answer.stderr == ""
    head, expected, remedy, last = answer.stdout.splitlines()
    config = tmp_path / "model" / "config.pbtxt"
    assert head == f"{config}:12:18: error: field 'enabled' [unknown-field]"
    assert (expected, remedy) == ("    expected a field of ModelResponseCache", "    did you mean enable?")
    assert json.loads(last)["error"] == 1
    write_model(tmp_path, GOOD.replace("pytorch", "pytoch"))
    assert command("tools.check", tmp_path).returncode == 0
    assert command("tools.check", tmp_path, "--strict").returncode == 1


def test_a_command_that_cannot_check_says_why(tmp_path: Path, command: Command) -> None:
    for arguments, message in [
        ((tmp_path / "none",), f"error: {tmp_path / 'none'} does not exist; give the path of a model repository"),
        ((tmp_path,), f"error: {tmp_path} contains no model; a model is a folder with a config.pbtxt"),
    ]:
        answer = command("tools.check", *arguments)
        assert (answer.returncode, answer.stderr.strip(), answer.stdout) == (2, message, "")
    answer = command("tools.check", write_model(tmp_path), "--model", "modle")
    assert answer.returncode == 2 and f"no model modle in {tmp_path}; there are model" in answer.stderr


def test_findings_are_printed_as_json_and_as_sarif(tmp_path: Path, command: Command) -> None:
    write_model(tmp_path, GOOD.replace("max_batch_size: 8", "max_batch_size: -1"), ("2/x",))
    document = json.loads(command("tools.check", tmp_path, "--json").stdout)
    assert document["error"] == 2
    missing, finding = sorted(document["findings"], key=lambda finding: str(finding["line"]))
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


def test_a_single_model_can_be_checked(tmp_path: Path, command: Command) -> None:
    write_example(RULES["max-batch-size"], tmp_path)
    assert command("tools.check", tmp_path, "--model", "member").returncode == 0
    assert command("tools.check", tmp_path, "--model", "member", "--model", "model").returncode == 1
