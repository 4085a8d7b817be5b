"""A language model of one's own, by the steps of its page: its weights in a folder, and nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.language.tiny import LIKE_LLAMA_3, write_clone, write_tiny
from tests.pages import Page
from tools.repository import ROOT

pytestmark = pytest.mark.slow
NAME = "my_llama"
# Of random weights, many tokens are about as likely as each other, and quantization chooses other ones.
LENIENT = "LanguageModel(budget=0.2, same=0.75, "


@pytest.mark.parametrize("kind", ["Llama", "Mistral", "Qwen2", "Qwen3"])
def test_the_steps_of_the_page_bring_it_to_where_it_answers(kind: str, tmp_path: Path) -> None:
    clone = write_clone(tmp_path / "clone")
    (clone / "model_repository").mkdir()
    weights = write_tiny(tmp_path / "network", kind=kind, rope=LIKE_LLAMA_3 if kind == "Llama" else None)
    (steps,) = [block for block in Page(ROOT / "docs" / "language-models.md").blocks("console") if NAME in block]
    steps = steps.replace("~/models/my-llama", str(weights)).replace("LanguageModel(", LENIENT, 1)
    steps = steps.replace("tools.serve ", "tools.serve --http-port 0 --grpc-port 0 --metrics-port 0 ")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-euc", steps], cwd=clone, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and " tokens/s, the first after " in done.stderr, done.stderr
