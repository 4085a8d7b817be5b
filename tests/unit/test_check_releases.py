"""What other releases of Triton have, refuse, or answer rightly, and what an upgrade changes for a repository."""

import json
import re
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.differential.examples import GOOD, MEMBERS, write_example, write_model
from tools.check.releases import EMBEDDED, NEWEST, SERVERS, ReleaseError, parse_release, pinned
from tools.check.rules import RULES, Scope, check
from tools.check.upgrade import CHANGES, Difference, differences
from tools.repository import ROOT

TENSORS = """input { name: "X" data_type: TYPE_FP32 dims: [ 4 ] } output { name: "Y" data_type: TYPE_FP32 dims: [ 4 ] }
"""
AOTI = f'platform: "torch_aoti" {TENSORS}'
METRICS = """model_metrics { metric_control {
  metric_identifier { family: "nv_inference_first_response_histogram_ms" }
  histogram_options { buckets: [ 0.1, 1, 10 ] } } }
"""
STEPS = """platform: "ensemble" max_batch_size: 8
input { name: "A" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "B" data_type: TYPE_FP32 dims: [ 4 ] }
ensemble_scheduling { max_inflight_requests: 16 step { model_name: "stream" model_version: -1
  input_map { key: "X" value: "A" } output_map { key: "Y" value: "B" } } }
"""
BF16 = f'backend: "onnxruntime" {TENSORS.replace("TYPE_FP32", "TYPE_BF16", 1)}'
PRECISION = f"""backend: "onnxruntime" {TENSORS} optimization {{ execution_accelerators {{ gpu_execution_accelerator {{
  name: "tensorrt" parameters {{ key: "precision_mode" value: "BF16" }} }} }} }}
"""
FIRST = {"model_metrics": "24.11", "max_inflight_requests": "25.11", "torch_aoti": "26.03", "BF16": "26.03"}
FIRST |= {"precision_mode": "26.02"}
# Each feature that came after the oldest release, alone in a repository, with the file that it needs.
LATER = {
    "model_metrics": (GOOD + METRICS, "1/model.pt"),
    "max_inflight_requests": (STEPS, "1/x"),
    "torch_aoti": (AOTI, "1/model.pt2"),
    "BF16": (BF16, "1/model.onnx"),
    "precision_mode": (PRECISION, "1/model.onnx"),
}


def later(folder: Path, name: str) -> Path:
    text, file = LATER[name]
    write_model(folder, text, (file,))
    if name == "max_inflight_requests":
        (folder / "stream" / "1").mkdir(parents=True)
        (folder / "stream" / "1" / "model.py").touch()
        (folder / "stream" / "config.pbtxt").write_text(MEMBERS["stream"])
    return folder


def errors(folder: Path, *releases: str) -> list[str]:
    found = check(folder, Scope(releases=releases))
    return [finding.rule for finding in found if finding.severity == "error"]


@pytest.mark.parametrize("name", LATER)
def test_a_feature_is_refused_before_its_release_and_taken_from_then_on(name: str, tmp_path: Path) -> None:
    later(tmp_path, name)
    for release in SERVERS:
        assert errors(tmp_path, release) == (["field-too-new"] if release < FIRST[name] else [])
    assert errors(tmp_path, "26.11") == []


@pytest.mark.parametrize("name", LATER)
def test_what_only_the_embedded_server_lacks_is_a_warning(name: str, tmp_path: Path) -> None:
    found = check(later(tmp_path, name), Scope(releases=(EMBEDDED, NEWEST)))
    (finding,) = (finding for finding in found if finding.rule == "field-too-new")
    assert finding.severity == "warning"
    assert finding.found.endswith("which 24.10 (2.51, embedded) does not take")
    assert finding.expected == f"Triton {FIRST[name]} or later"


@pytest.mark.parametrize(
    ("text", "files", "rules"),
    [
        ("", ("1/model.pt2",), []),
        (AOTI + 'backend: "pytorch"', ("1/model.pt2",), []),
        (f'backend: "pytorch" {TENSORS}', ("1/model.pt2",), ["model-file-missing"]),
        (AOTI, ("1/model.pt",), ["model-file-missing"]),
        (AOTI + "max_batch_size: 8", ("1/model.pt2",), ["aoti-batch"]),
    ],
)
def test_a_package_of_aotinductor_is_found_as_the_core_finds_it(
    text: str, files: tuple[str, ...], rules: list[str], tmp_path: Path
) -> None:
    write_model(tmp_path, text, files)
    found = [finding.rule for finding in check(tmp_path, Scope(releases=(NEWEST,)))]
    assert [rule for rule in found if rule not in ("warmup-missing", "batching-unused")] == rules


@pytest.mark.parametrize("name", LATER)
def test_an_upgrade_to_the_release_of_a_feature_takes_it(name: str, tmp_path: Path) -> None:
    found = differences(later(tmp_path, name), EMBEDDED, NEWEST, Scope())
    assert [(difference.since, difference.kind) for difference in found if difference.kind != "different"] == [
        (FIRST[name], "taken")
    ]


def test_what_releases_dropped_or_mended_is_judged_by_release(tmp_path: Path) -> None:
    write_model(tmp_path / "a", f'platform: "tensorflow_savedmodel" {TENSORS}', ("1/model.savedmodel",))
    assert [errors(tmp_path / "a", release) for release in ("25.02", "25.03")] == [[], ["release-removed"]]
    outside = GOOD.replace("dims: [ 2 ]", 'dims: [ 2 ] label_filename: "../labels.txt"')
    write_model(tmp_path / "b", outside)
    (tmp_path / "b" / "labels.txt").write_text("red\ngreen\n")
    assert [errors(tmp_path / "b", release) for release in ("26.01", "26.02")] == [[], ["release-removed"]]
    write_example(RULES["cache-leak"], tmp_path / "c")
    strategy = 'parameters { key: "TRITON_BATCH_STRATEGY_PATH" value { string_value: "/opt/batching.so" } }'
    write_model(tmp_path / "e", GOOD + strategy)
    assert [errors(tmp_path / "e", release) for release in ("26.05", "26.06")] == [[], ["release-removed"]]
    allocator = "session.use_device_allocator_for_initializers"
    write_model(
        tmp_path / "d",
        f"""backend: "onnxruntime" {TENSORS}
        parameters {{ key: "{allocator}" value {{ string_value: "1" }} }}""",
        ("1/model.onnx",),
    )
    found = {release: {finding.rule for finding in check(tmp_path / "d", Scope(releases=(release,)))}
             for release in ("25.01", "25.02")}  # fmt: skip
    assert "parameter-too-new" in found["25.01"] and "parameter-too-new" not in found["25.02"]
    mended = {release: {finding.rule for finding in check(tmp_path / "c", Scope(releases=(release,)))}
              for release in ("25.08", "25.09")}  # fmt: skip
    assert ("25.09", "mended") in {(found.since, found.kind) for found in differences(
        tmp_path / "c", EMBEDDED, NEWEST, Scope())}  # fmt: skip
    assert "cache-leak" in mended["25.08"] and "cache-leak" not in mended["25.09"]


def test_a_release_is_named_by_its_container_or_its_server() -> None:
    assert [parse_release(text) for text in ("24.10", "2.51", "2.51.0", "2.59.0", "2.59.1", "2.73", "26.11")] == [
        *("24.10", "24.10", "24.10", "25.06", "25.07", "26.09", "26.11")
    ]
    for text in ("24.09", "2.50", "26.13", "2.99", "latest", ""):
        with pytest.raises(ReleaseError, match="expected 24.10 to 26.09 or later, or a server of 2.51 to 2.73"):
            parse_release(text)


def test_the_default_is_what_compose_pins() -> None:
    assert f"tritonserver:{pinned()}-py3" in (ROOT / "docker-compose.yml").read_text()


def test_changes_are_in_order_and_within_the_known_releases() -> None:
    since = [change.since for change in CHANGES]
    assert since == sorted(since) and set(since) <= set(SERVERS)
    assert all(rule.until in ("", *SERVERS) for rule in RULES.values())


def test_an_upgrade_names_what_changes_for_the_models_that_it_changes(tmp_path: Path) -> None:
    later(tmp_path, "max_inflight_requests")
    write_model(tmp_path / "old", f'platform: "tensorflow_graphdef" {TENSORS}', ("1/model.graphdef",))
    (tmp_path / "old" / "model").rename(tmp_path / "tensorflow")
    (tmp_path / "old").rmdir()
    found = differences(tmp_path, "24.10", "26.09", Scope())
    told = {(difference.since, difference.kind, difference.model) for difference in found}
    assert {
        *(("25.11", "taken", "model"), ("25.03", "refused", "tensorflow"), ("24.11", "different", "model")),
        *(("26.04", "different", "stream"), ("24.11", "different", "tensorflow")),
    } <= told
    assert differences(tmp_path, "26.05", "26.09", Scope()) == []


def test_the_command_tells_what_an_upgrade_refuses(tmp_path: Path, command: Command) -> None:
    write_model(tmp_path, f'backend: "tensorflow" platform: "tensorflow_graphdef" {TENSORS}', ("1/model.graphdef",))
    result = command("tools.check", tmp_path, "--upgrade", "2.51", "26.11")
    assert result.returncode == 1 and "26.11 is later than 26.09" in result.stderr
    document = json.loads(result.stdout.splitlines()[-1])
    refused = [Difference(**entry) for entry in document["differences"] if entry["kind"] == "refused"]
    assert [difference.what.partition(",")[0] for difference in refused] == ["backend 'tensorflow'"]
    assert re.search(r"25\.03 +refused +model", result.stdout)
    assert command("tools.check", tmp_path, "--triton", "25.02").returncode == 0
    assert command("tools.check", tmp_path, "--triton", "9").returncode == 2
    backwards = command("tools.check", tmp_path, "--upgrade", "26.09", "24.10")
    assert backwards.returncode == 2 and "24.10 is not later than 26.09" in backwards.stderr
