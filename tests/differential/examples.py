"""The example of each rule as a repository: the model `model`, and models for the steps of ensembles."""

from pathlib import Path

from tools.checks.finding import Rule

X = '{ name: "X" data_type: TYPE_FP32 dims: [ 4 ] }'
X2 = '{ name: "X2" data_type: TYPE_FP32 dims: [ 4 ] }'
Y = 'output { name: "Y" data_type: TYPE_FP32 dims: [ 4 ] }'
BASE = 'backend: "python" max_batch_size: 8 '
MEMBERS = {
    "member": BASE + f"input {X} {Y}",
    "two_inputs": BASE + f"input [ {X}, {X2} ] {Y}",
    "stream": BASE + f"input {X} {Y} model_transaction_policy {{ decoupled: true }}",
}


def write_example(rule: Rule, repository: Path) -> None:
    """Write a rule's example into a repository, with all files that a good model of these would have."""
    for name, text in {**MEMBERS, "model": rule.example}.items():
        version = repository / name / "1"
        version.mkdir(parents=True, exist_ok=True)
        (repository / name / "config.pbtxt").write_text(text)
        (version.parent / "labels.txt").write_text("red\ngreen\n")
        for file in ("model.pt", "model.py") if rule.id != "backend-missing" else ():
            (version / file).write_text("")
