"""Fixtures for tests that train."""

from collections.abc import Iterator

import pytest

from tools.train.training import cpu_threads


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Limit torch to one thread: on busy cores, two that wait for each other turn seconds into minutes."""
    with cpu_threads(1):
        yield
