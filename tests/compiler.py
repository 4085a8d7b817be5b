"""What needs the native backend: skipped, with the reason, on a host that can neither compile nor load it."""

import pytest

from tools.serve.native import choose_backend

NEEDS_NATIVE = pytest.mark.skipif(choose_backend("auto").library is None, reason=choose_backend("auto").reason)
BACKENDS = [pytest.param("native", marks=NEEDS_NATIVE), "python"]
