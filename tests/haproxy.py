"""What needs HAProxy: skipped, with the reason, on a host without it."""

import shutil

import pytest

NEEDS_HAPROXY = pytest.mark.skipif(
    not shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"),
    reason="HAProxy is not installed (apt install haproxy)",
)
