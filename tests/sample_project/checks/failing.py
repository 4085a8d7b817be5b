"""Not collected by itself: tests that fail, to see their reports."""

import numpy as np


def test_fails(triton_model):
    triton_model("scale").assert_close(np.full((1, 2), np.nan, np.float32), [[0, 0]])


def test_unrecorded(triton_model):
    triton_model("linear").assert_golden(np.ones((1, 3), np.float32))


def test_wrong(triton_model):
    triton_model("scale").assert_close(np.ones((1, 2), np.float32), [[1, 2]])
