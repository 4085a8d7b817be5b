"""What a load test sends: request bodies made from real samples, each encoded once before the test begins.

Encoding on every request would measure the generator; several different samples keep a response cache honest. Asked
for is the first output alone, as a classifier's callers do: what a model gives besides is not what they pay for.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tritonclient.utils import serialize_byte_tensor, triton_to_np_dtype

from clients.client import Client
from clients.connection import Protocol
from clients.contract import Array, Contract, TensorSpec
from clients.errors import InvalidInput
from clients.images import image_files, image_readers

SAMPLES = Path("build/samples")
BODIES = 16
OPEN_DIM = 8  # The size of a dimension that the contract leaves open (-1).
PICTURE = (32, 32, 3)  # The same for one that takes pictures: UINT8 [height, width, channels].


@dataclass(frozen=True)
class Payload:
    """The encoded requests for one model.

    Attributes:
        source: "samples" or "synthetic" (random values: the model has no sample images).
        headers: HTTP headers that the bodies need.
        answer_bytes: what the output of one answer takes at the least; less of it is a wrong answer.
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
    read, finish = image_readers(contract)
    images = [finish(read(path)[None])[0] for path in image_files([folder])]
    picks = np.arange(BODIES * batch).reshape(BODIES, batch) % len(images)
    return "samples", [{contract.inputs[0].name: np.stack([images[row] for row in rows])} for rows in picks]


def synthetic(contract: Contract, spec: TensorSpec, batch: int, random: np.random.Generator) -> Array:
    """Random values for one input."""
    dtype = triton_to_np_dtype(spec.datatype)
    if spec.datatype == "BYTES" or dtype is None:
        raise InvalidInput(f"{contract.model}: no random values for {spec.name} of type {spec.datatype}")
    is_picture = spec.datatype == "UINT8" and len(spec.dims) == len(PICTURE)
    sizes = PICTURE if is_picture else (OPEN_DIM,) * len(spec.dims)
    dims = [size if dim < 0 else dim for dim, size in zip(spec.dims, sizes, strict=True)]
    shape = ([batch] if contract.batched else []) + dims
    whole = np.issubdtype(dtype, np.integer) or dtype is bool
    values = random.integers(0, 256 if is_picture else 2, shape) if whole else random.standard_normal(shape)
    return np.asarray(values).astype(dtype)


def encode(
    protocol: Protocol, contract: Contract, batches: list[dict[str, Array]]
) -> tuple[tuple[bytes, ...], dict[str, str]]:
    """Request bodies and the HTTP headers that go with them."""
    if protocol == "grpc":
        return tuple(grpc_body(contract, one) for one in batches), {}
    encoded = [http_body(contract, one) for one in batches]
    # One header for all: where the JSON in front of the tensors says larger sizes it is longer, so all are filled up.
    longest = max(length for _, length in encoded)
    bodies = tuple(body[:length].ljust(longest) + body[length:] for body, length in encoded)
    return bodies, {"Inference-Header-Content-Length": str(longest)}


def http_body(contract: Contract, arrays: dict[str, Array]) -> tuple[bytes, int]:
    """An HTTP body in Triton's binary tensor format, and the length of the JSON that it begins with."""
    from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

    tensors = [
        InferInput(spec.name, list(arrays[spec.name].shape), spec.datatype).set_data_from_numpy(arrays[spec.name])
        for spec in contract.inputs
    ]
    outputs = [InferRequestedOutput(contract.outputs[0].name)]
    body, length = InferenceServerClient.generate_request_body(tensors, outputs=outputs)
    return bytes(body), int(length)


def grpc_body(contract: Contract, arrays: dict[str, Array]) -> bytes:
    """A serialised ModelInferRequest with raw tensor contents."""
    from tritonclient.grpc.service_pb2 import ModelInferRequest

    request = ModelInferRequest(model_name=contract.model)
    for spec in contract.inputs:
        request.inputs.add(name=spec.name, datatype=spec.datatype, shape=arrays[spec.name].shape)
        request.raw_input_contents.append(raw(arrays[spec.name]))
    request.outputs.add(name=contract.outputs[0].name)
    return bytes(request.SerializeToString())


def raw(array: Array) -> bytes:
    """A tensor's contents on the wire."""
    if array.dtype == np.object_:
        return bytes(serialize_byte_tensor(array).item())
    return array.tobytes()


def answer_bytes(contract: Contract, batch: int) -> int:
    """The least that the raw output of an answer can take; open dimensions and texts count as nothing."""
    spec = contract.outputs[0]
    dtype = triton_to_np_dtype(spec.datatype)
    if spec.datatype == "BYTES" or dtype is None or min(spec.dims, default=1) <= 0:
        return 0
    return int(np.prod(spec.dims)) * np.dtype(dtype).itemsize * max(1, batch * contract.batched)
