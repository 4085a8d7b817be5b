"""The clients against the session's server: both protocols, synchronous and asyncio."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.aio import AsyncClient
from clients.client import Client
from clients.connection import Connection
from clients.contract import Array, TensorSpec
from clients.errors import InvalidInput, ModelNotFound
from tests.e2e.peers import STYLES, ask
from tests.waiting import settled, soon
from tools.repository import model_names, versions

Call = Callable[..., Any]
MODEL, PIXELS = "mnist_mlp", 784


@pytest.fixture(params=STYLES)
def call(request: pytest.FixtureRequest, connection: Connection) -> Call:
    """Call a method of a fresh client, synchronous or asyncio, over either protocol."""
    return lambda method, *arguments, **options: ask(request.param, connection, method, *arguments, **options)


def digits(count: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(count, PIXELS)).astype(np.float32)


def counts(connection: Connection) -> tuple[int, int]:
    """Inferences and executions of the model so far."""
    with Client(connection) as client:
        (statistics,) = client.statistics(MODEL)
    return statistics.get("inference_count", 0), statistics.get("execution_count", 0)


def test_the_server_reports_its_name_and_readiness(call: Call) -> None:
    server = call("server")
    assert server["name"] == "triton" and "classification" in server["extensions"]
    assert call("is_ready") is True


def test_all_models_are_listed_with_version_and_state(call: Call, repository: Path) -> None:
    listed = call("models")
    assert {model["name"] for model in listed} == set(model_names(repository))
    ready = {model["name"]: int(model["version"]) for model in listed if model.get("state") == "READY"}
    # A model that nobody has built yet is listed, and that is all.
    assert ready == {
        name: versions(name, repository)[-1] for name in model_names(repository) if versions(name, repository)
    }


def test_the_contract_matches_config_pbtxt(call: Call) -> None:
    contract = call("contract", MODEL)
    assert contract.inputs == (TensorSpec("INPUT__0", "FP32", (784,)),)
    assert contract.outputs == (TensorSpec("OUTPUT__0", "FP32", (10,)), TensorSpec("FEATURES__1", "FP32", (128,)))
    assert contract.members == ()
    assert call("contract", "digit_image").members == ("digit_prepare", MODEL, "classification")
    assert contract.max_batch_size == 64 and contract.parameters["IMAGE_SHAPE"] == "1x28x28"
    assert contract.versions == tuple(model["version"] for model in call("models") if model["name"] == MODEL)


def test_a_batch_gives_the_same_rows_as_its_images_one_by_one(call: Call) -> None:
    images = digits(5)
    together = call("infer", MODEL, images)["OUTPUT__0"]
    one_by_one = [call("infer", MODEL, {"INPUT__0": image[None]})["OUTPUT__0"][0] for image in images]
    assert together.shape == (5, 10) and together.dtype == np.float32
    np.testing.assert_allclose(together, one_by_one, rtol=1e-4, atol=1e-5)
    assert np.ptp(together, axis=0).min() > 0


def test_both_protocols_and_styles_give_the_same_numbers(call: Call, client: Client) -> None:
    images = digits(3)
    asked = call("infer", MODEL, images, outputs=["OUTPUT__0"])["OUTPUT__0"]
    np.testing.assert_allclose(asked, client.infer(MODEL, images)["OUTPUT__0"], rtol=1e-4, atol=1e-5)


def test_labels_are_argmax_and_softmax_of_the_raw_output(call: Call) -> None:
    images = digits(7)
    logits = call("infer", MODEL, images)["OUTPUT__0"].astype(np.float64)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    answers = call("classify", MODEL, images, top=3)
    for labels, scores, probabilities in zip(answers, logits, softmax, strict=True):
        best = np.argsort(-scores)[:3]
        assert [label.index for label in labels] == best.tolist()
        assert [label.name for label in labels] == [str(index) for index in best]
        # Triton writes scores with six decimals.
        assert [label.score for label in labels] == pytest.approx(scores[best], abs=2e-5, rel=1e-4)
        assert [label.probability for label in labels] == pytest.approx(probabilities[best], abs=1e-4)


def test_there_are_no_more_labels_than_classes(call: Call) -> None:
    (labels,) = call("classify", MODEL, digits(1), top=99)
    assert sorted(label.name for label in labels) == [str(digit) for digit in range(10)]
    assert sum(label.probability for label in labels) == pytest.approx(1)


def test_labels_have_their_names_where_the_model_has_names(call: Call) -> None:
    (labels,) = call("classify", "cifar10_cnn", np.zeros((1, 3, 32, 32), np.float32), top=10)
    assert {"airplane", "cat", "truck"} < {label.name for label in labels}


def test_a_version_can_be_chosen(call: Call) -> None:
    (version,) = call("contract", MODEL).versions
    images = digits(2)
    named, latest = (call("infer", MODEL, images, version=number)["OUTPUT__0"] for number in (version, ""))
    np.testing.assert_allclose(named, latest, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["contract", "statistics"])
def test_an_unknown_model_is_an_error_with_its_name(call: Call, method: str) -> None:
    with pytest.raises(ModelNotFound, match="'no_such_model' is not"):
        call(method, "no_such_model")


def test_an_unknown_version_is_an_error_with_its_number(call: Call) -> None:
    with pytest.raises(ModelNotFound, match=f"'{MODEL}' version 99 is not found"):
        call("infer", MODEL, digits(1), version="99")


def test_the_largest_batch_passes_and_a_larger_one_is_refused_by_the_client(call: Call) -> None:
    assert call("infer", MODEL, digits(64))["OUTPUT__0"].shape == (64, 10)
    with pytest.raises(InvalidInput, match="expected a batch of 1 to 64, got 65; split it"):
        call("infer", MODEL, digits(65))


def test_what_the_client_refuses_never_reaches_the_server(call: Call, connection: Connection) -> None:
    def failures() -> int:
        with Client(connection) as client:
            return int(client.statistics(MODEL)[0]["inference_stats"].get("fail", {}).get("count", 0))

    before = settled(lambda: (failures(), counts(connection)))
    with pytest.raises(InvalidInput, match="expected FP32, got FP64"):
        call("infer", MODEL, digits(1).astype(np.float64))
    with pytest.raises(InvalidInput, match=r"expected shape \[batch, 784\], got \[1, 783\]"):
        call("classify", MODEL, digits(1)[:, 1:])
    assert before == (failures(), counts(connection))


def test_statistics_grow_by_the_requests_that_were_made(call: Call, connection: Connection) -> None:
    inferences, executions = settled(lambda: counts(connection))
    call("infer", MODEL, digits(3))
    assert soon(lambda: counts(connection) == (inferences + 3, executions + 1))


def test_gathered_requests_each_get_their_own_answer(connection: Connection) -> None:
    images = digits(150)

    async def gather() -> list[dict[str, Array]]:
        async with AsyncClient(connection) as client:
            return await asyncio.gather(*(client.infer(MODEL, image[None]) for image in images))

    inferences, _ = settled(lambda: counts(connection))
    answers = np.concatenate([answer["OUTPUT__0"] for answer in asyncio.run(gather())])
    assert soon(lambda: counts(connection)[0] == inferences + 150)
    with Client(connection) as client:
        expected = np.concatenate([client.infer(MODEL, images[at : at + 50])["OUTPUT__0"] for at in (0, 50, 100)])
    np.testing.assert_allclose(answers, expected, rtol=1e-4, atol=1e-5)


def test_each_thread_may_have_a_client_of_its_own(connection: Connection) -> None:
    def work(seed: int) -> Array:
        answer: Array = ask("sync", connection, "infer", MODEL, digits(2, seed))["OUTPUT__0"]
        return answer

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(work, range(8)))
    np.testing.assert_allclose(together, [work(seed) for seed in range(8)], rtol=1e-4, atol=1e-5)


def test_closing_twice_is_harmless(connection: Connection) -> None:
    async def twice() -> None:
        async with AsyncClient(connection) as client:
            assert await client.is_ready()
            await client.close()

    asyncio.run(twice())
    with Client(connection) as client:
        assert client.is_ready()
        client.close()


def test_an_asyncio_client_outside_its_block_is_an_error_with_the_remedy(connection: Connection) -> None:
    with pytest.raises(InvalidInput, match="use an AsyncClient within `async with`"):
        asyncio.run(AsyncClient(connection).server())
