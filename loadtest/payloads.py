"""What a load test sends: request bodies made from real samples, each encoded once before the test begins.

Encoding on every request would measure the generator; several different samples keep a response cache honest.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from clients.client import Client
from clients.connection import Protocol
from clients.contract import Array, Contract, TensorSpec
from clients.errors import InvalidInput
from clients.images import image_files, image_spec, load_image, normalise

SAMPLES = Path("build/samples")
BODIES = 16
OPEN_DIM = 8  # The size of a dimension that the contract leaves open (-1).


@dataclass(frozen=True)
class Payload:
    """The encoded requests for one model.

    Attributes:
        source: "samples" or "synthetic" (random values: the model has no sample images).
        headers: HTTP headers that the bodies need.
        answer_bytes: what the outputs of one answer take at the least; less of it is a wrong answer.
    """

    model: str
    source: str
    bodies: tuple[bytes, ...]
    headers: dict[str, str]
    answer_bytes: int


def payload(client: Client, model: str, samples: Path, batch: int) -> Payload:
    """Encode requests for one model in the client's protocol.

    Raises:
        InvalidInput: the batch is larger than the model's maximum, or an input is of a kind that is not made here.
        ClientError: the server has no such model.
    """
    contract = client.contract(model)
    source, batches = inputs(contract, samples, batch)
    for one in batches:
        contract.check(one)
    bodies, headers = encode(client.connection.protocol, contract, batches)
    return Payload(model, source, bodies, headers, answer_bytes(contract, batch))


def inputs(contract: Contract, samples: Path, batch: int) -> tuple[str, list[dict[str, Array]]]:
    """Batches of inputs by name, and where they come from."""
    folder = samples / contract.model
    if not folder.is_dir():
        random = np.random.default_rng(0)
        return "synthetic", [
            {spec.name: synthetic(contract, spec, batch, random) for spec in contract.inputs} for _ in range(BODIES)
        ]
    spec = image_spec(contract)
    pixels = np.stack([load_image(path, spec) for path in image_files([folder])])
    images = normalise(pixels, spec)
    picks = np.arange(BODIES * batch).reshape(BODIES, batch) % len(images)
    return "samples", [{contract.inputs[0].name: images[rows]} for rows in picks]


def synthetic(contract: Contract, spec: TensorSpec, batch: int, random: np.random.Generator) -> Array:
    """Random values for one input."""
    dtype = triton_to_np_dtype(spec.datatype)
    if spec.datatype == "BYTES" or dtype is None:
        raise InvalidInput(f"{contract.model}: no random values for {spec.name} of type {spec.datatype}")
    shape = ([batch] if contract.batched else []) + [OPEN_DIM if dim < 0 else dim for dim in spec.dims]
    whole = np.issubdtype(dtype, np.integer) or dtype is bool
    values = random.integers(0, 2, shape) if whole else random.standard_normal(shape)
    return np.asarray(values).astype(dtype)


def encode(
    protocol: Protocol, contract: Contract, batches: list[dict[str, Array]]
) -> tuple[tuple[bytes, ...], dict[str, str]]:
    """Request bodies and the HTTP headers that go with them."""
    if protocol == "grpc":
        return tuple(grpc_body(contract, one) for one in batches), {}
    encoded = [http_body(contract, one) for one in batches]
    # The JSON header is equally long in all: the names, shapes and sizes are the same.
    return tuple(body for body, _ in encoded), {"Inference-Header-Content-Length": str(encoded[0][1])}


def http_body(contract: Contract, arrays: dict[str, Array]) -> tuple[bytes, int]:
    """An HTTP body in Triton's binary tensor format, and the length of the JSON that it begins with."""
    from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

    tensors = [
        InferInput(spec.name, list(arrays[spec.name].shape), spec.datatype).set_data_from_numpy(arrays[spec.name])
        for spec in contract.inputs
    ]
    outputs = [InferRequestedOutput(spec.name) for spec in contract.outputs]
    body, length = InferenceServerClient.generate_request_body(tensors, outputs=outputs)
    return bytes(body), int(length)


def grpc_body(contract: Contract, arrays: dict[str, Array]) -> bytes:
    """A serialised ModelInferRequest with raw tensor contents."""
    from tritonclient.grpc.service_pb2 import ModelInferRequest

    request = ModelInferRequest(model_name=contract.model)
    for spec in contract.inputs:
        request.inputs.add(name=spec.name, datatype=spec.datatype, shape=arrays[spec.name].shape)
        request.raw_input_contents.append(arrays[spec.name].tobytes())
    return bytes(request.SerializeToString())


def answer_bytes(contract: Contract, batch: int) -> int:
    """The least that the raw outputs of an answer can take; open dimensions and texts count as nothing."""
    total = 0
    for spec in contract.outputs:
        dtype = triton_to_np_dtype(spec.datatype)
        if spec.datatype != "BYTES" and dtype is not None and min(spec.dims, default=1) > 0:
            total += int(np.prod(spec.dims)) * np.dtype(dtype).itemsize * max(1, batch * contract.batched)
    return total
