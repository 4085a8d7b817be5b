"""How a config's tensors bind to `forward`: the naming rules of NVIDIA's libtorch backend."""

import re
from typing import Any

import pytest

from tools.backends.pytorch.binding import (
    TORCH_DTYPES,
    Argument,
    BindingError,
    Inputs,
    Output,
    bind_inputs,
    bind_outputs,
)


def tensor(name: str, data_type: str = "TYPE_FP32", dims: int = 1) -> dict[str, Any]:
    return {"name": name, "data_type": data_type, "dims": ["4"] * dims}


def config(*inputs: str, max_batch_size: int = 8, **more: Any) -> dict[str, Any]:
    """A config as Triton hands it to a backend, with FP32 inputs of these names."""
    return {"name": "model", "max_batch_size": max_batch_size, "input": [tensor(name) for name in inputs], **more}


def outputs(*names: str, data_type: str = "TYPE_FP32", max_batch_size: int = 8) -> dict[str, Any]:
    tensors = [tensor(name, data_type) for name in names]
    return {"name": "model", "max_batch_size": max_batch_size, "output": tensors}


def tensors(*names: str) -> list[Argument]:
    """Arguments of `forward` that are all tensors."""
    return [Argument(name, "TensorType") for name in names]


def sequence(*controls: str, **more: Any) -> dict[str, Any]:
    return {"sequence_batching": {"control_input": [{"name": name} for name in controls], **more}}


@pytest.mark.parametrize(
    ("names", "arguments", "bound"),
    [
        # All names are arguments: by argument, whatever the config's order or the numbers in the names.
        (("mask", "ids"), ("ids", "mask"), ("ids", "mask")),
        (("x__1", "x__0"), ("x__1", "x__0"), ("x__1", "x__0")),
        # Else all have an index: by index, and "10" comes after "9".
        (("B__1", "A__0"), ("x", "y"), ("A__0", "B__1")),
        (("A__1", "A__0"), ("A__1", "y"), ("A__0", "A__1")),
        (
            tuple(f"INPUT__{index}" for index in (10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)),
            tuple("abcdefghijk"),
            tuple(f"INPUT__{index}" for index in range(11)),
        ),
        # Else: in the config's order.
        (("second", "first"), ("x", "y"), ("second", "first")),
        (("y", "A__0"), ("x", "y"), ("y", "A__0")),
        (("image",), ("x",), ("image",)),
    ],
)
def test_inputs_bind_by_argument_name_else_by_index_else_in_order(
    names: tuple[str, ...], arguments: tuple[str, ...], bound: tuple[str, ...]
) -> None:
    assert bind_inputs(config(*names), tensors(*arguments)) == Inputs(bound, frozenset(), as_dict=False)


@pytest.mark.parametrize("names", [("A__0", "A__2"), ("A__1", "B__1"), ("A__1", "A__2")])
def test_indices_that_do_not_match_the_arguments_are_refused(names: tuple[str, str]) -> None:
    with pytest.raises(BindingError, match=rf"inputs {', '.join(names)}: expected the indices 0 to 1 .*\(x, y\)"):
        bind_inputs(config(*names), tensors("x", "y"))


@pytest.mark.parametrize(("expected", "provided"), [(1, 2), (2, 1), (1, 0), (0, 1)])
def test_a_wrong_number_of_inputs_is_refused_with_both_counts(expected: int, provided: int) -> None:
    message = f"unable to load model 'model', configuration expects {expected} inputs, model provides {provided}"
    with pytest.raises(BindingError, match=re.escape(message)):
        bind_inputs(config(*"ab"[:expected]), tensors(*"xy"[:provided]))


def test_the_names_of_inputs_are_the_keys_of_one_dict_argument() -> None:
    one_dict = [Argument("batch", "DictType")]
    assert bind_inputs(config("b", "a__7"), one_dict) == Inputs(("b", "a__7"), frozenset(), as_dict=True)


@pytest.mark.parametrize("kind", ["DictType", "TupleType", "IntType", "FloatType", "StringType", "OptionalType"])
def test_an_argument_that_is_not_a_tensor_is_named(kind: str) -> None:
    arguments = [Argument("x", "TensorType"), Argument("odd", kind)]
    with pytest.raises(BindingError, match=rf"'{kind}' was detected in the model \(argument 'odd'\).*Dict\(str"):
        bind_inputs(config("a", "b"), arguments)


def test_a_string_input_is_a_list_argument_of_a_model_without_batches() -> None:
    texts = [Argument("texts", "ListType")]
    one_string = config(max_batch_size=0, input=[tensor("TEXT", "TYPE_STRING")])
    assert bind_inputs(one_string, texts) == Inputs(("TEXT",), frozenset({"TEXT"}), as_dict=False)


@pytest.mark.parametrize(
    ("max_batch_size", "more"),
    [(1, {"dims": ["1"]}), (0, {"dims": ["1", "1"]}), (0, {"dims": ["1"], "reshape": {"shape": ["1", "1"]}})],
)
def test_strings_of_more_than_one_dimension_are_refused(max_batch_size: int, more: dict[str, Any]) -> None:
    text = {**tensor("TEXT", "TYPE_STRING"), **more}
    message = "Triton only supports 1 dimensional List of String as {} for 'TEXT' for model 'model'"
    with pytest.raises(BindingError, match=message.format("input")):
        bind_inputs(config(max_batch_size=max_batch_size, input=[text]), [Argument("texts", "ListType")])
    with pytest.raises(BindingError, match=message.format("output")):
        bind_outputs(config(max_batch_size=max_batch_size, output=[text]))


def test_a_reshape_to_one_dimension_makes_strings_acceptable() -> None:
    text = {**tensor("TEXT", "TYPE_STRING", dims=2), "reshape": {"shape": ["4"]}}
    assert bind_inputs(config(max_batch_size=0, input=[text]), [Argument("texts", "ListType")]).strings == {"TEXT"}


def test_a_reshape_to_none_makes_each_row_of_a_batch_one_string() -> None:
    text = {**tensor("TEXT", "TYPE_STRING"), "reshape": {}}  # JSON leaves out the empty shape.
    assert bind_inputs(config(input=[text]), [Argument("texts", "ListType")]).strings == {"TEXT"}


@pytest.mark.parametrize("data_type", ["TYPE_BF16", "TYPE_UINT16", "TYPE_UINT32", "TYPE_UINT64", "TYPE_INVALID"])
def test_an_unsupported_data_type_is_refused_with_the_supported_ones(data_type: str) -> None:
    message = f"unsupported datatype {data_type} for {{}} 'T' for model 'model'; supported: TYPE_BOOL, .*TYPE_STRING"
    with pytest.raises(BindingError, match=message.format("input")):
        bind_inputs(config(input=[tensor("T", data_type)]), tensors("x"))
    with pytest.raises(BindingError, match=message.format("output")):
        bind_outputs(outputs("T", data_type=data_type))


def test_a_tensor_without_a_data_type_is_refused() -> None:
    with pytest.raises(BindingError, match="unsupported datatype TYPE_INVALID for output 'T'"):
        bind_outputs({"name": "model", "output": [{"name": "T", "dims": ["4"]}]})


@pytest.mark.parametrize("data_type", TORCH_DTYPES)
def test_every_other_data_type_is_accepted_as_input_and_output(data_type: str) -> None:
    assert bind_inputs(config(input=[tensor("T", data_type)]), tensors("x")).names == ("T",)
    assert bind_outputs(outputs("T", data_type=data_type)) == (Output("T", 0, TORCH_DTYPES[data_type]),)


@pytest.mark.parametrize(
    ("names", "places"),
    [
        (("OUTPUT__1", "OUTPUT__0"), (1, 0)),
        (("OUTPUT__2",), (2,)),
        (("probabilities", "labels"), (0, 1)),
        (("labels", "OUTPUT__0"), (0, 1)),
        (("A__0__3",), (3,)),
    ],
)
def test_outputs_bind_by_index_if_all_have_one_else_in_order(names: tuple[str, ...], places: tuple[int, ...]) -> None:
    bound = bind_outputs(outputs(*names))
    assert [(output.name, output.index) for output in bound] == list(zip(names, places, strict=True))


def test_a_string_output_has_no_torch_dtype() -> None:
    assert bind_outputs(outputs("TEXT", data_type="TYPE_STRING", max_batch_size=0)) == (Output("TEXT", 0, None),)


def test_a_config_without_outputs_is_refused() -> None:
    with pytest.raises(BindingError, match="must contain at least one output"):
        bind_outputs(outputs())


def test_control_tensors_take_their_place_among_the_arguments_by_index() -> None:
    controlled = config("INPUT__1", **sequence("START__0", "READY__2"))
    bound = bind_inputs(controlled, tensors("start", "x", "ready"))
    assert bound.names == ("START__0", "INPUT__1", "READY__2")


def test_a_control_tensor_counts_as_an_input() -> None:
    with pytest.raises(BindingError, match="configuration expects 2 inputs, model provides 1"):
        bind_inputs(config("INPUT__0", **sequence("START__1")), tensors("x"))


def test_a_control_tensor_without_an_index_is_refused() -> None:
    with pytest.raises(BindingError, match="input 'START' does not follow <name>__<index> naming convention"):
        bind_inputs(config("INPUT__0", **sequence("START")), tensors("x", "start"))


def test_implicit_state_is_refused_because_the_embedded_server_cannot_keep_it() -> None:
    stateful = config("INPUT__0", **sequence("START__1", state=[{"input_name": "S__2", "output_name": "S__1"}]))
    with pytest.raises(
        BindingError, match="model 'model' asks for implicit state.*serve it with the native backend or NVIDIA's"
    ):
        bind_inputs(stateful, tensors("x", "start", "state"))
