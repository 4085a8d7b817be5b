"""When the clients try again and how long they wait."""

import pytest

from clients import errors, failures


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
