"""What the tests that train share."""

from collections.abc import Iterator

import pytest

from tools.train.training import cpu_threads


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Two threads that wait for each other on busy cores make a training of seconds one of minutes."""
    with cpu_threads(1):
        yield
