"""Repositories to check: the example of each rule, with models for the steps of ensembles, and a good model."""

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

from tools.check.finding import Rule

X = '{ name: "X" data_type: TYPE_FP32 dims: [ 4 ] }'
X2 = '{ name: "X2" data_type: TYPE_FP32 dims: [ 4 ] }'
Y = 'output { name: "Y" data_type: TYPE_FP32 dims: [ 4 ] }'
BASE = 'backend: "python" max_batch_size: 8 dynamic_batching { } '
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
MEMBERS = {
    "member": BASE + f"input {X} {Y}",
    "two_inputs": BASE + f"input [ {X}, {X2} ] {Y}",
    "twin": BASE + f"input {X} {Y} {Y}",
    "stream": BASE + f"input {X} {Y} model_transaction_policy {{ decoupled: true }}",
}
LIMITED = BASE.replace("{ }", "{ default_queue_policy { max_queue_size: 1 } }") + f"input {X} {Y}"


def write_example(rule: Rule, repository: Path) -> None:
    """Write a rule's example into a repository, with all other files that its models need."""
    members = MEMBERS | ({"limited": LIMITED} if "limited" in rule.example else {})
    for name, text in {**members, "model": rule.example}.items():
        version = repository / name / "1"
        version.mkdir(parents=True, exist_ok=True)
        (repository / name / "config.pbtxt").write_text(text)
        (version.parent / "labels.txt").write_text("red\ngreen\n")
        files = {"model.pt": torchscript(), "model.py": b""} if rule.id != "backend-missing" else {}
        for file, content in files.items():
            (version / file).write_bytes(content)


FORWARD = """class Net(Module):
  def forward(self: __torch__.net.Net,
    INPUT__0: Tensor) -> Tensor:
    return INPUT__0
"""


def torchscript(code: str = FORWARD, version: str = "3") -> bytes:
    """The parts of a TorchScript file that a static check reads: the saved class, its code, the format's version."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as files:
        files.writestr("net/data.pkl", b"\x80\x02c__torch__.net\nNet\n)\x81.")
        files.writestr("net/code/__torch__/net.py", code)
        files.writestr("net/version", version + "\n")
    return archive.getvalue()


def write_model(folder: Path, text: str | None = GOOD, files: Iterable[str] = ("1/model.pt",)) -> Path:
    """Write a model into a repository and return the repository."""
    for file in files:
        (folder / "model" / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / "model" / file).write_bytes(torchscript() if file.endswith(".pt") else b"")
    (folder / "model").mkdir(exist_ok=True, parents=True)
    if text is not None:
        (folder / "model" / "config.pbtxt").write_text(text)
    return folder
