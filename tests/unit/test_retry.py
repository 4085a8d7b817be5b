"""When the clients try again and how long they wait."""

import pytest

from clients import errors, failures
from loadtest.generator.lane import failure_kind


@pytest.mark.parametrize("repeatable", [True, False])
@pytest.mark.parametrize("kind", errors.ClientError.__subclasses__())
def test_only_an_unavailable_server_is_retried(kind: type[errors.ClientError], repeatable: bool) -> None:
    assert failures.may_retry(kind(""), repeatable) == (kind is errors.ServerUnavailable)


def test_after_a_broken_connection_only_repeatable_requests_are_retried() -> None:
    assert failures.may_retry(errors.ConnectionLost(""), repeatable=True)
    assert not failures.may_retry(errors.ConnectionLost(""), repeatable=False)


@pytest.mark.parametrize("retries", [0, 1, 5])
def test_there_is_one_delay_for_each_retry(retries: int) -> None:
    assert len(list(failures.retry_delays(retries))) == retries


def test_delays_grow_to_their_limit_and_never_beyond_it() -> None:
    runs = [list(failures.retry_delays(12)) for _ in range(200)]
    longest = [max(waits) for waits in zip(*runs, strict=True)]
    ceilings = [min(failures.LONGEST_DELAY_S, failures.FIRST_DELAY_S * 2**attempt) for attempt in range(12)]
    # The longest of 200 even draws is within a tenth of its ceiling, but for one run in a thousand million.
    assert all(0.9 * ceiling < wait <= ceiling for wait, ceiling in zip(longest, ceilings, strict=True))


def test_delays_differ_so_that_clients_do_not_return_together() -> None:
    assert len({tuple(failures.retry_delays(3)) for _ in range(50)}) == 50


SCRIPT = """in ensemble 'p', PyTorch execute failure: The following operation failed in the TorchScript interpreter.
Traceback of TorchScript (most recent call last):
  File "step.py", line 6, in f
    if x.sum() > 0:
        raise ValueError("image 3 is damaged: 5 of\\n 9 bytes")
        ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~ <--- HERE
builtins.ValueError: image 3 is damaged: 5 of
 9 bytes
"""
PYTHON = "Failed to process the request(s), message: ValueError: no good\n\nAt:\n  /models/m/1/model.py(9): execute\n"


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (SCRIPT, "in ensemble 'p', PyTorch execute failure: ValueError: image 3 is damaged: 5 of 9 bytes"),
        # Without its end, the trace is all there is.
        (SCRIPT.partition("builtins")[0], " ".join(SCRIPT.partition("builtins")[0].split())),
        (PYTHON, "Failed to process the request(s), message: ValueError: no good"),
        ("expected 2 inputs but got 1", "expected 2 inputs but got 1"),
    ],
)
def test_a_model_s_words_are_told_without_the_trace(reason: str, words: str) -> None:
    assert failures.without_trace(reason) == words
    # A load test counts such failures by what they say.
    assert f"HTTP 500: {words}".startswith(failure_kind("HTTP 500", reason))
