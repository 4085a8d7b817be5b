"""Rules about the pytorch backend, compared with the embedded server's pytorch backend."""

import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from torch import Tensor, nn

from tests.conftest import served
from tools import torchscript as writer
from tools.check.rules import RULES
from tools.serve.tritonserver import Options, Server


class Net(nn.Module):
    """One input, one output."""

    def forward(self, INPUT__0: Tensor) -> Tensor:
        return INPUT__0


def refusal(server: Server, model: str) -> str:
    """Why the server does not load a model; empty if it does."""
    connection = http.client.HTTPConnection(server.http, timeout=60)
    connection.request("POST", f"/v2/repository/models/{model}/load", "{}")
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return "" if response.status == 200 else str(json.loads(text)["error"])


def test_the_backend_refuses_the_examples_of_its_rules(tmp_path: Path) -> None:
    # Each load imports torch, so one rule about names and one about parameters represent the others.
    writer.save(Net(), tmp_path / "model.pt")
    rules = [RULES["pytorch-index"], RULES["pytorch-flag"]]
    assert all(rule.refused_by == "backend" for rule in rules)
    for rule in rules:
        version = tmp_path / "models" / rule.id / "1"
        version.mkdir(parents=True)
        (version / "model.pt").write_bytes((tmp_path / "model.pt").read_bytes())
        (version.parent / "config.pbtxt").write_text(rule.example.replace('name: "model"', f'name: "{rule.id}"'))
    flags = ("--model-control-mode=explicit",)
    with served(Options(tmp_path / "models", hardware="cpu", flags=flags)) as server, ThreadPoolExecutor(2) as pool:
        refusals = dict(zip(rules, pool.map(lambda rule: refusal(server, rule.id), rules), strict=True))
    reasons = {rule.id: reason for rule, reason in refusals.items()}
    assert "inputs INPUT__1: expected the indices 0 to 0 after '__', each once" in reasons["pytorch-index"]
    assert "parameter INFERENCE_MODE is 'yes'" in reasons["pytorch-flag"]
