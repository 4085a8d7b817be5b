"""What the language model's backend keeps of requests that are over; in this process, where one can look."""

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.language.asking import add_copy
from tests.language.tiny import MODEL
from tools.repository import ROOT, read_config
from tools.testing.in_process import in_process
from tools.testing.program import Program

REQUESTS = 30


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Cycles of references stay."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_a_request_that_is_over_is_freed_at_once(language_models: Path, tmp_path: Path, uncollected: None) -> None:
    add_copy(MODEL, tmp_path, MODEL, lambda config: None, repository=language_models)
    version = tmp_path / MODEL / "1"
    for file in (ROOT / "tools" / "backends" / "vllm").glob("*.py"):
        (version / file.name).symlink_to(file)
    with in_process(Program(version / "model.py", read_config(MODEL, repository=tmp_path)), 60) as model:
        for _ in range(REQUESTS):
            answers = model.stream({"text_input": np.array([b"The time"], np.object_), "stream": np.array([True])})
            assert answers
        kept = [each for each in gc.get_objects() if type(each).__name__ in ("Call", "Sequence")]
    # Threads hold what they worked on last.
    assert len(kept) < 6, len(kept)
