"""What needs HAProxy: skipped, with the reason, on a host without it."""

import pytest

from tools.front.door import haproxy
from tools.front.options import FrontError


def _lacking() -> str:
    try:
        haproxy()
    except FrontError as error:
        return str(error)
    return ""


NEEDS_HAPROXY = pytest.mark.skipif(bool(_lacking()), reason=_lacking())
