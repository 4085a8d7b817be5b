"""perf_analyzer's windows: long enough that a slow model's figure says something, no longer than that."""

import pytest

from tools.bench.perf_analyzer import LONGEST_WINDOW, PerfAnalyzerError, window_length


@pytest.mark.parametrize(
    ("rate", "concurrency", "seconds", "expected"),
    [
        (5000.0, 32, 1.0, 1.0),  # 156 answers for each request in flight
        (20.0, 32, 1.0, 12.8),  # less than one
        (20.0, 32, 12.8, 12.8),
        (18.0, 32, 12.8, 12.8),  # a little slower than before: no third run for it
        (20.0, 1, 0.3, 0.4),
        (1.0, 64, 1.0, LONGEST_WINDOW),
        (1.0, 64, LONGEST_WINDOW, LONGEST_WINDOW),
        (0.0, 8, 1.0, 4.0),
    ],
)
def test_a_window_lasts_until_each_request_in_flight_was_answered_some_times(
    rate: float, concurrency: int, seconds: float, expected: float
) -> None:
    assert window_length(rate, concurrency, seconds) == pytest.approx(expected)


def test_a_model_that_answers_nothing_is_given_up() -> None:
    with pytest.raises(PerfAnalyzerError, match="no answer at concurrency 8 in 30 s"):
        window_length(0.0, 8, LONGEST_WINDOW)
