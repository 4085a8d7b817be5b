"""A sample of `python -m tests.commands`: odd options on odd machines never show a traceback."""

from pathlib import Path

import pytest

from tests.commands.running import run_tries
from tests.commands.world import make_world


@pytest.mark.timeout(280)
def test_no_command_shows_a_traceback_whatever_it_is_given(built: Path, tmp_path: Path) -> None:
    outcomes = list(run_tries(make_world(tmp_path / "world"), range(12), seed=1, workers=2))
    assert not [f"{outcome}\n{outcome.stderr}" for outcome in outcomes if outcome.flaw]
    assert len({outcome.code for outcome in outcomes}) > 1
