"""How a trial decides, and how a router reads answers."""

import json
import random

import grpc
import numpy as np
import pytest
from tritonclient.grpc.service_pb2 import ModelInferResponse

from clients.errors import InvalidInput
from clients.router.grpc_proxy import GrpcReply
from clients.router.replies import LENGTH, HttpReply, Reply, agree
from clients.router.trial import SequentialTest, Terms, Trial, below


def decided(rate: float, seed: int) -> SequentialTest:
    """A test that observed failures at a rate until it was sure."""
    chance, test = random.Random(seed), below("errors", 0.1)
    while test.verdict is None:
        test.observe(chance.random() < rate)
    return test


@pytest.mark.parametrize(("rate", "verdict"), [(0.01, "well"), (0.1 / 3, "well"), (0.1, "bad"), (0.3, "bad")])
def test_a_sequential_test_keeps_its_error_rate(rate: float, verdict: str) -> None:
    wrong = sum(decided(rate, seed).verdict != verdict for seed in range(500))
    assert wrong <= 10  # 1 in 100 promised


def test_the_worse_the_rate_the_sooner_the_decision() -> None:
    needed = [np.mean([decided(rate, seed).observations for seed in range(100)]) for rate in (0.1, 0.3, 0.9)]
    assert needed[0] > 2 * needed[1] > 4 * needed[2]


def test_impossible_rates_and_terms_are_refused() -> None:
    with pytest.raises(InvalidInput, match="errors: expected rates 0 < well < bad < 1, got 0.2 and 0.1"):
        SequentialTest("errors", 0.2, 0.1)
    with pytest.raises(InvalidInput, match="expected a share of more than 0 and at most 1, got 0"):
        Terms("m", "m.v2", share=0)
    with pytest.raises(InvalidInput, match="expected mode shadow or canary, got 'mirror'"):
        Terms("m", "m.v2", mode="mirror")  # type: ignore[arg-type]


def reply(*scores: float, name: str = "m", status: int = 200, seconds: float = 0.01) -> HttpReply:
    """Triton's answer with one row of scores, in its binary form."""
    data = np.array([scores], np.float32).tobytes()
    output = {"name": "Y", "datatype": "FP32", "shape": [1, len(scores)], "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"model_name": name, "outputs": [output]}, separators=(",", ":")).encode()
    return HttpReply(status, {LENGTH: str(len(head))}, head + data, seconds)


def over_grpc(*scores: float, name: str = "m") -> GrpcReply:
    """The same over gRPC."""
    output = ModelInferResponse.InferOutputTensor(name="Y", datatype="FP32", shape=[1, len(scores)])
    data = [np.array([scores], np.float32).tobytes()]
    message = ModelInferResponse(model_name=name, outputs=[output], raw_output_contents=data)
    return GrpcReply(grpc.StatusCode.OK, "", message.SerializeToString(), (), 0.01)


def texts(*labels: str) -> HttpReply:
    """Triton's answer with texts, in JSON."""
    output = {"name": "Y", "datatype": "BYTES", "shape": [len(labels)], "data": list(labels)}
    return HttpReply(200, {}, json.dumps({"model_name": "m", "outputs": [output]}).encode(), 0.01)


def test_two_replies_agree_if_their_predictions_are_equal() -> None:
    assert agree(reply(1, 2, 3), reply(0, 0, 0.1))
    assert not agree(reply(1, 2, 3), reply(9, 2, 3))
    assert agree(over_grpc(1, 2, 3), over_grpc(0, 0, 0.1)) and not agree(over_grpc(1, 2, 3), over_grpc(9, 2, 3))
    assert agree(texts("cat"), texts("cat")) and not agree(texts("cat"), texts("dog"))
    # Triton's classification extension: the score is no part of what is said.
    assert agree(texts("0.9:3:cat", "0.1:5:dog"), texts("0.8:3:cat", "0.2:5:dog"))
    assert not agree(texts("0.9:3:cat", "0.1:5:dog"), texts("0.9:5:dog", "0.1:3:cat"))
    nobody_s = HttpReply(200, {}, b"hello", 0.01)
    assert not agree(nobody_s, nobody_s)


def test_a_candidate_s_reply_has_the_name_of_the_requested_model() -> None:
    answer = reply(1, 2, name="mnist_mlp.v12").renamed("mnist_mlp")
    assert answer == reply(1, 2, name="mnist_mlp")
    assert over_grpc(1, 2, name="mnist_mlp.v12").renamed("mnist_mlp") == over_grpc(1, 2, name="mnist_mlp")


def trial() -> Trial:
    return Trial(Terms("m", "m.v2", share=1.0))


def test_a_candidate_is_promoted_only_if_all_tests_are_well() -> None:
    running = trial()
    while running.decision is None:
        assert running.takes_part()
        running.compare(reply(1, 2), reply(1, 3))
    assert running.decision == "promote" and running.pairs < 1000 and not running.takes_part()


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (reply(1, 2, status=500), "errors in "),
        (HttpReply(0, {}, b"", 1.0), "errors in "),
        (None, "errors in "),
        (reply(2, 1), "disagreement in "),
        (reply(1, 2, seconds=0.1), "slowness in "),
    ],
)
def test_a_candidate_is_rolled_back_as_soon_as_one_test_is_bad(candidate: Reply | None, reason: str) -> None:
    running = trial()
    while running.decision is None:
        running.compare(reply(1, 2), candidate)
    assert running.decision == "roll back" and running.reason.startswith(reason) and running.pairs < 30
    assert "the limit, is likelier than an acceptable" in running.reason


def test_pairs_count_the_same_whichever_way_they_came() -> None:
    running = trial()
    for _ in range(3):
        running.compare(reply(1, 2), reply(1, 3))
        running.compare(over_grpc(1, 2), over_grpc(2, 1))
    assert running.protocols == {"http": 3, "grpc": 3} and running.pairs == 6
    assert running.tests["disagreement"].failures == 3


def test_a_request_that_the_model_itself_refuses_is_not_counted() -> None:
    running = trial()
    for _ in range(100):
        running.compare(reply(status=400), reply(status=400))
    assert running.pairs == 0 and running.decision is None


def test_a_trial_without_a_decision_is_rolled_back() -> None:
    running = Trial(Terms("m", "m.v2", share=1.0, most=10))
    for _ in range(10):
        running.compare(reply(1, 2), reply(1, 3))
    assert (running.decision, running.reason) == ("roll back", "undecided after 10 requests")
