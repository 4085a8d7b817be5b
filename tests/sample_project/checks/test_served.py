"""The models as a server serves them."""

import pytest
from tools.inputs import ROWS


def test_answers(triton_model):
    triton_model("linear").assert_close(ROWS, 2 * ROWS + 1)
    triton_model("scale", "grpc").assert_close({"X": ROWS[:, :2]}, {"Y": 3 * ROWS[:, :2]})
    triton_model("shout").assert_close([b"ab"], ["AB!!!!!!"])


def test_rows_do_not_mix(triton_model):
    assert triton_model("linear").assert_batches(ROWS) >= 1
    assert triton_model("scale", "grpc").assert_batches(ROWS[:, :2]) > 1


def test_answers_stay(triton_model):
    triton_model("linear").assert_golden(ROWS[:1], ROWS)


def test_client(triton_client, triton_server, triton_error):
    assert triton_client("grpc").is_ready() and triton_server.http
    with pytest.raises(triton_error, match="X must be finite"):
        triton_client().infer("scale", ROWS[:, :2] * float("nan"))
