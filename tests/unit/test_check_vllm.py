"""tools.check on models of the vllm backend: what NVIDIA's refuses, and what vLLM would not find."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tools.check.rules import Scope, check
from tools.repository import REPOSITORY

ONE: dict[str, Any] = {"model": "./model/1"}
ADAPTER = {"sql": "./model/1/sql"}


def broken_rules(folder: Path, files: dict[str, Any], old: str = "", new: str = "", auto: bool = True) -> list[str]:
    """The rules that a model breaks with smollm2's config, changed, and JSON files in its version's folder."""
    version = folder / "model" / "1"
    version.mkdir(parents=True)
    config = (REPOSITORY / "smollm2" / "config.pbtxt").read_text().replace("smollm2", "model")
    assert old in config
    (folder / "model" / "config.pbtxt").write_text(config.replace(old, new))
    for name, content in files.items():
        (version / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return [f"{finding.severity} {finding.rule}" for finding in check(folder, Scope(auto_complete=auto))]


def test_a_whole_model_has_no_finding(tmp_path: Path) -> None:
    assert broken_rules(tmp_path, {"model.json": ONE}) == []


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ("{", "error model-vllm-arguments"),
        ([1], "error model-vllm-arguments"),
        ({}, "warning model-vllm-unnamed"),
        ({"model": "./model/2"}, "warning model-vllm-path"),
        ({"model": 1}, "error model-vllm-argument"),
        ({**ONE, "tensor_parallel_size": "2"}, "error model-vllm-argument"),
        ({**ONE, "max_model_len": True}, "error model-vllm-argument"),
        ({**ONE, "enforce_eager": "true"}, "error model-vllm-argument"),
        ({**ONE, "gpu_memory_utilization": 90}, "error model-vllm-argument"),
        ({**ONE, "enable_lora": True}, "error model-vllm-lora"),
    ],
)
def test_engine_arguments_that_would_not_start_are_findings(arguments: Any, rule: str, tmp_path: Path) -> None:
    assert broken_rules(tmp_path, {"model.json": arguments}) == [rule]


@pytest.mark.parametrize("name", ["HuggingFaceTB/SmolLM2-135M-Instruct", "/models/other"])
def test_names_on_a_hub_and_paths_in_a_container_are_left_to_the_engine(name: str, tmp_path: Path) -> None:
    assert broken_rules(tmp_path, {"model.json": {"model": name, "seed": 1}}) == []


def test_a_version_without_engine_arguments_is_refused(tmp_path: Path) -> None:
    assert broken_rules(tmp_path, {"other.json": ONE}) == ["error model-vllm-arguments"]


def test_several_gpus_need_kind_model(tmp_path: Path) -> None:
    two = {"model.json": {**ONE, "tensor_parallel_size": 1, "pipeline_parallel_size": 2}}
    assert broken_rules(tmp_path / "a", two) == []
    assert broken_rules(tmp_path / "b", two, "KIND_MODEL", "KIND_GPU") == ["error model-vllm-parallel"]
    assert broken_rules(tmp_path / "c", {"model.json": ONE}, "KIND_MODEL", "KIND_GPU") == []


def test_adapters_must_be_there_where_lora_is_enabled(tmp_path: Path) -> None:
    files = {"model.json": {**ONE, "enable_lora": "true"}, "multi_lora.json": ADAPTER}
    assert broken_rules(tmp_path, files) == ["error model-vllm-lora"]
    (tmp_path / "model" / "1" / "sql").mkdir()
    assert check(tmp_path) == []


@pytest.mark.parametrize(
    ("policy", "auto", "rules"),
    [
        ("model_transaction_policy { decoupled: false }", True, ["error vllm-decoupled"]),
        ("", True, ["info config-completed"]),
        ("", False, ["error vllm-decoupled"]),
    ],
)
def test_a_model_must_be_decoupled_unless_the_backend_makes_it_so(
    policy: str, auto: bool, rules: list[str], tmp_path: Path
) -> None:
    old = "model_transaction_policy { decoupled: true }"
    assert broken_rules(tmp_path, {"model.json": ONE}, old, policy, auto) == rules


def test_a_config_that_says_no_more_than_the_backend_is_completed(tmp_path: Path) -> None:
    assert broken_rules(tmp_path, {"model.json": ONE}) == []
    (tmp_path / "model" / "config.pbtxt").write_text('backend: "vllm" instance_group { kind: KIND_MODEL }')
    assert {finding.rule for finding in check(tmp_path)} == {"config-completed"}
    shutil.rmtree(tmp_path / "model" / "1")
    assert "version-missing" in {finding.rule for finding in check(tmp_path)}
