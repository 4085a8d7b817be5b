"""Other models than the one under test, played by functions of the test."""

from typing import Any

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from clients.contract import Array
from tools.testing.backend_utils import Models
from tools.testing.messages import InferenceRequest, InferenceResponse
from tools.testing.program import Arrays, Program, config_json, contract_of, is_decoupled
from tools.testing.tensors import Tensor, TritonModelException, as_sent


def answers(program: Program, name: str, inputs: Arrays) -> list[dict[str, Array]]:
    """What a function says in the place of the model `name`, in the types of that model's config."""
    play, config = program.plays[name]
    said: Any = play(inputs)
    dtypes = {spec.name: triton_to_np_dtype(spec.datatype) for spec in contract_of(config_json(config)).outputs}
    return [
        {name: np.asarray(value, dtypes.get(name)) for name, value in answer.items()}
        for answer in (said if is_decoupled(config) else [said])
    ]


def played(program: Program, models: Models, request: InferenceRequest, wants_several: bool) -> list[InferenceResponse]:
    """Answer a model's request to another one.

    Raises:
        Exception: the server would refuse the request, or whatever the function raised.
    """
    name = request.model_name
    if name not in program.plays or not models.is_model_ready(name):
        raise TritonModelException(f"Failed for execute the inference request. Model '{name}' is not ready.")
    _, config = program.plays[name]
    if is_decoupled(config) and not wants_several:
        raise TritonModelException(
            f"Model {name} is using the decoupled. The current BLS request call doesn't support models using the "
            "decoupled transaction policy. Please use 'decoupled=True' argument to the 'exec' or 'async_exec' calls "
            "for decoupled models.'"
        )
    inputs = {tensor.name(): as_sent(tensor) for tensor in request.inputs()}
    contract_of(config_json(config)).check(inputs)
    wanted = request.requested_output_names()
    responses = [
        InferenceResponse([Tensor(output, array) for output, array in answer.items() if not wanted or output in wanted])
        for answer in answers(program, name, inputs)
    ]
    # A decoupled model's last response carries nothing but that it is the last.
    return [*responses, InferenceResponse()] if is_decoupled(config) else responses
