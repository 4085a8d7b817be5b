"""Configs that are missing or incomplete are judged with what the backend would add to them."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.differential.examples import write_model
from tools.check.onnx_file import OnnxError, OnnxTensor, read_onnx
from tools.check.rules import Scope, check
from tools.check.served import load

FLOAT, INT64 = 1, 7
Tensor = tuple[str, int, Sequence[int | str]]
IMAGE: Tensor = ("x", FLOAT, ["N", 3])
SCORES: Tensor = ("y", FLOAT, ["N", 10])


def field(number: int, value: bytes | int) -> bytes:
    """A field of a protobuf message, shorter than 128 bytes."""
    return bytes([number << 3, value]) if isinstance(value, int) else bytes([number << 3 | 2, len(value)]) + value


def described(name: str, data_type: int, dims: Sequence[int | str]) -> bytes:
    sizes = [field(1, dim) if isinstance(dim, int) else field(2, dim.encode()) for dim in dims]
    shape = b"".join(field(1, size) for size in sizes)
    return field(1, name.encode()) + field(2, field(1, field(1, data_type) + field(2, shape)))


def onnx(inputs: Sequence[Tensor], outputs: Sequence[Tensor], given: str = "w") -> bytes:
    """A model with an initializer that is among its inputs, as older exporters write it."""
    graph = field(5, field(1, 2) + field(8, given.encode()))
    graph += b"".join(field(11, described(*tensor)) for tensor in (*inputs, (given, FLOAT, [2])))
    graph += b"".join(field(12, described(*tensor)) for tensor in outputs)
    return field(1, 8) + field(2, b"test") + field(7, graph)


def repository(folder: Path, content: bytes, text: str | None = None) -> Path:
    write_model(folder, text, ("1/model.onnx",))
    (folder / "model" / "1" / "model.onnx").write_bytes(content)
    return folder


def test_inputs_and_outputs_of_an_onnx_file_are_read(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(onnx([IMAGE, ("ids", INT64, [1, "length"])], [SCORES]))
    assert read_onnx(file) == (
        (OnnxTensor("x", "TYPE_FP32", (-1, 3)), OnnxTensor("ids", "TYPE_INT64", (1, -1))),
        (OnnxTensor("y", "TYPE_FP32", (-1, 10)),),
    )
    for wrong in (b"", b"text", onnx([IMAGE], [SCORES])[:-4], onnx([IMAGE], []), onnx([("x", 14, [1])], [SCORES])):
        file.write_bytes(wrong)
        with pytest.raises(OnnxError, match=r"model\.onnx cannot be read as ONNX"):
            read_onnx(file)


@pytest.mark.parametrize("text", [None, "max_batch_size: 0", 'backend: "onnxruntime"', 'platform: "onnxruntime_onnx"'])
def test_a_config_that_onnx_runtime_completes_is_complete(text: str | None, tmp_path: Path) -> None:
    (finding,) = check(repository(tmp_path, onnx([IMAGE], [SCORES]), text), Scope(hardware="cpu"))[:1]
    assert (finding.rule, finding.severity) == ("config-completed", "info")
    assert finding.found == (
        "the onnxruntime backend adds max_batch_size 4: the first size is taken for the batch; x [3]"
    )
    config = load(tmp_path).models["model"].config
    assert config.max_batch_size == 4 and config.HasField("dynamic_batching") and list(config.output[0].dims) == [10]


def test_a_model_of_fixed_sizes_has_no_batch_dimension(tmp_path: Path) -> None:
    fixed: Tensor = ("x", FLOAT, [1, 3])
    config = load(repository(tmp_path / "a", onnx([fixed], [SCORES]))).models["model"].config
    assert config.max_batch_size == 0 and list(config.input[0].dims) == [1, 3]
    refused = check(repository(tmp_path / "b", onnx([fixed], [SCORES]), "max_batch_size: 8"))
    assert [finding.rule for finding in refused] == ["config-not-completed"]


def test_what_is_written_stays_and_scalars_are_reshaped(tmp_path: Path) -> None:
    text = 'max_batch_size: 16 sequence_batching { } input { name: "x" data_type: TYPE_FP32 dims: [ 3 ] }'
    config = load(repository(tmp_path, onnx([IMAGE], [("y", FLOAT, ["N"])]), text)).models["model"].config
    assert config.max_batch_size == 16 and not config.HasField("dynamic_batching") and len(config.input) == 1
    assert list(config.output[0].dims) == [1] and config.output[0].HasField("reshape")


def test_a_file_that_is_no_onnx_is_named(tmp_path: Path) -> None:
    (finding,) = check(repository(tmp_path, b"no model"))
    assert finding.rule == "config-not-completed" and "model.onnx cannot be read as ONNX" in finding.found


@pytest.mark.parametrize(
    ("file", "content", "rule"),
    [
        ("model.pt", b"", "config-missing"),
        ("model.py", b"class TritonPythonModel: pass", "config-missing"),
        ("model.py", b"    def auto_complete_config(config): pass", "config-completed"),
        ("model.plan", b"", "config-completed"),
        ("model.xml", b"", "config-completed"),
        ("notes.txt", b"", "config-missing"),
    ],
)
def test_only_backends_that_complete_a_config_do_without_one(
    file: str, content: bytes, rule: str, tmp_path: Path
) -> None:
    write_model(tmp_path, None, (f"1/{file}",))
    (tmp_path / "model" / "1" / file).write_bytes(content)
    assert [finding.rule for finding in check(tmp_path)][:1] == [rule]
    assert [finding.rule for finding in check(tmp_path, Scope(auto_complete=False))][:1] == ["config-missing"]


ENSEMBLE = """platform: "ensemble" max_batch_size: 4
input { name: "A" data_type: TYPE_FP32 dims: [ SIZE ] }
output { name: "B" data_type: TYPE_FP32 dims: [ 10 ] }
ensemble_scheduling { step { model_name: "model" model_version: -1
  input_map { key: "x" value: "A" } output_map { key: "y" value: "B" } } }
"""


def test_a_step_of_an_ensemble_has_the_tensors_of_its_file(tmp_path: Path) -> None:
    repository(tmp_path, onnx([IMAGE], [SCORES]))
    (tmp_path / "all" / "1").mkdir(parents=True)
    for size, rules in (("3", []), ("5", ["ensemble-shape"])):
        (tmp_path / "all" / "config.pbtxt").write_text(ENSEMBLE.replace("SIZE", size))
        assert [finding.rule for finding in check(tmp_path) if finding.severity == "error"] == rules


def test_the_command_judges_as_a_server_without_auto_complete(tmp_path: Path, command: Command) -> None:
    repository(tmp_path, onnx([IMAGE], [SCORES]))
    assert command("tools.check", tmp_path).returncode == 0
    refused = command("tools.check", tmp_path, "--disable-auto-complete-config")
    assert refused.returncode == 1 and "[config-missing]" in refused.stdout
