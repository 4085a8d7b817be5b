"""The check of an input before it is sent: what passes, and that every refusal says what was expected and what came."""

from typing import Any

import numpy as np
import pytest

from clients.contract import Array, Contract, TensorSpec
from clients.errors import InvalidInput

IMAGE = TensorSpec("INPUT__0", "FP32", (3, 32, 32))
SCORES = TensorSpec("OUTPUT__0", "FP32", (10,))


def contract(*inputs: TensorSpec, max_batch_size: int = 8) -> Contract:
    return Contract("net", ("1",), max_batch_size, inputs or (IMAGE,), (SCORES,))


def images(*shape: int, dtype: Any = np.float32) -> dict[str, Array]:
    return {"INPUT__0": np.zeros(shape, dtype)}


def refusal(of: Contract, inputs: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        of.check(of.named(inputs))
    return str(caught.value)


@pytest.mark.parametrize("size", [1, 8])
def test_every_batch_size_up_to_the_maximum_passes(size: int) -> None:
    contract().check(images(size, 3, 32, 32))


@pytest.mark.parametrize("size", [0, 9])
def test_a_batch_beyond_the_limits_is_refused_with_them(size: int) -> None:
    assert f"expected a batch of 1 to 8, got {size}; split it" in refusal(contract(), images(size, 3, 32, 32))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 3, 32, 31), (1, 1, 3, 32, 32), ()])
def test_a_wrong_shape_is_refused_with_both_shapes(shape: tuple[int, ...]) -> None:
    message = refusal(contract(), images(*shape))
    assert f"net input 'INPUT__0': expected shape [batch, 3, 32, 32], got {list(shape)}" in message


@pytest.mark.parametrize(("dtype", "name"), [(np.float64, "FP64"), (np.uint8, "UINT8"), (">f4", ">f4")])
def test_a_wrong_dtype_is_refused_with_both_names(dtype: Any, name: str) -> None:
    message = refusal(contract(), images(1, 3, 32, 32, dtype=dtype))
    assert f"expected FP32, got {name}; convert with .astype()" in message


def test_a_list_is_an_array_too() -> None:
    flat = contract(TensorSpec("X", "INT64", (2,)))
    named = flat.named([[1, 2]])  # type: ignore[arg-type]
    flat.check(named)
    assert named["X"].shape == (1, 2)
    assert "expected INT64, got FP64" in refusal(flat, {"X": [[1.0, 2.0]]})


def test_a_bare_array_is_the_only_input() -> None:
    array = np.zeros((1, 3, 32, 32), np.float32)
    assert contract().named(array) == {"INPUT__0": array}


def test_a_bare_array_for_two_inputs_is_refused_with_their_names() -> None:
    two = contract(TensorSpec("A", "FP32", (1,)), TensorSpec("B", "INT32", (-1,)))
    assert "net takes 2 inputs (A FP32 [1], B INT32 [-1]); pass them by name" in refusal(two, np.zeros(1))


def test_an_unknown_input_is_refused_with_the_known_ones() -> None:
    inputs = {**images(1, 3, 32, 32), "X": np.zeros(1)}
    assert "net has no input 'X'; it takes INPUT__0 FP32 [3, 32, 32]" in refusal(contract(), inputs)


def test_a_missing_input_is_refused_by_name() -> None:
    assert "input 'INPUT__0' is missing" in refusal(contract(), {})


def test_an_optional_input_may_be_missing_but_not_wrong() -> None:
    both = contract(IMAGE, TensorSpec("HINT", "INT32", (1,), optional=True))
    both.check(images(1, 3, 32, 32))
    wrong = {**images(1, 3, 32, 32), "HINT": np.zeros((1, 2), np.int32)}
    assert "'HINT': expected shape [batch, 1]" in refusal(both, wrong)


def test_inputs_of_different_batch_sizes_are_refused_with_them() -> None:
    two = contract(TensorSpec("A", "FP32", (1,)), TensorSpec("B", "FP32", (1,)))
    sizes = {"A": np.zeros((2, 1), np.float32), "B": np.zeros((3, 1), np.float32)}
    assert "different batch sizes: {'A': 2, 'B': 3}" in refusal(two, sizes)


def test_a_dim_of_minus_one_takes_any_length() -> None:
    varying = contract(TensorSpec("X", "FP32", (-1, 2)))
    for length in (0, 1, 7):
        varying.check({"X": np.zeros((1, length, 2), np.float32)})


def test_a_model_without_batches_takes_its_dims_as_they_are() -> None:
    single = contract(max_batch_size=0)
    single.check(images(3, 32, 32))
    assert "expected shape [3, 32, 32], got [1, 3, 32, 32]" in refusal(single, images(1, 3, 32, 32))


@pytest.mark.parametrize("texts", [np.array([[b"a"]]), np.array([["ä"]], object)])
def test_texts_may_be_bytes_or_objects(texts: Array) -> None:
    contract(TensorSpec("T", "BYTES", (1,))).check({"T": texts})


def test_an_array_of_numpy_text_is_refused_with_the_remedy() -> None:
    texts = contract(TensorSpec("T", "BYTES", (1,)))
    assert "expected BYTES, got <U1; convert with .astype(object)" in refusal(texts, np.array([["a"]]))
