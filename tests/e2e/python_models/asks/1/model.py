"""Ways to ask another model."""

import numpy as np
import triton_python_backend_utils as pb

ONE = np.ones(1, np.float32)


def request(model="callee", array=ONE, names=("Y",), **options):
    return pb.InferenceRequest(
        model_name=model, inputs=[pb.Tensor("X", array)], requested_output_names=list(names), **options
    )


def told(response):
    if response.has_error():
        return f"error: {response.error().message()}"
    return str({tensor.name(): tensor.as_numpy().tolist() for tensor in response.output_tensors()})


def streamed(array=ONE):
    return " ".join(told(response) for response in request("callee_stream", array).exec(decoupled=True))


WAYS = {
    "asked": lambda: told(request().exec()),
    "one_output": lambda: told(request(names=["Z"]).exec()),
    "all_options": lambda: told(
        request(request_id="a", correlation_id=3, flags=0, timeout=9, parameters={"a": 1}).exec()
    ),
    "refused": lambda: told(request(array=-ONE).exec()),
    "streamed": streamed,
}


class TritonPythonModel:
    async def execute(self, requests):
        (request,) = requests
        which = pb.get_input_tensor_by_name(request, "WHICH").as_numpy()[0].decode()
        return [pb.InferenceResponse([pb.Tensor("TEXT", np.array([WAYS[which]()], object))])]
