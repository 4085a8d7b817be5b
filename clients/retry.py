"""When to retry and how long to wait: exponential backoff with full jitter.

The jitter keeps many clients from returning all at once; see Marc Brooker, "Exponential Backoff And Jitter" (AWS
Architecture Blog, 2015).
"""

import random
from collections.abc import Iterator

from clients.errors import ClientError, ConnectionLost, ServerUnavailable

FIRST_S = 0.05
LONGEST_S = 2.0


def may_retry(error: ClientError, repeatable: bool) -> bool:
    """Retry only if the server is unavailable: an invalid request stays invalid, and a deadline is the caller's own.

    Args:
        error: what went wrong.
        repeatable: whether the request may reach the server twice. An inference may not: if the connection broke, that
            very request may have stopped the server, and behind a load balancer it would stop the next one.
    """
    if isinstance(error, ConnectionLost):
        return repeatable
    return isinstance(error, ServerUnavailable)


def delays(retries: int) -> Iterator[float]:
    """Yield the seconds to wait before each further attempt."""
    for attempt in range(retries):
        yield random.uniform(0, min(LONGEST_S, FIRST_S * 2**attempt))
