"""Request bodies of a load test: from a file, from sample images or random, each encoded once before the test begins.

Encoding every request anew would measure the generator. Several different samples keep a response cache honest. Only
the first output is requested, as callers of a classifier do.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tritonclient.utils import serialize_byte_tensor, triton_to_np_dtype

from clients.batch.sources import array_source
from clients.client import Client
from clients.contract import Array, Contract, TensorSpec
from clients.errors import InvalidInput
from clients.images import image_files, image_readers

BODIES = 16
# Sizes of dimensions that the contract leaves open (-1): in general, and of UINT8 images [height, width, channels].
_OPEN_DIM = 8
_IMAGE = (32, 32, 3)


@dataclass(frozen=True)
class Payload:
    """Encoded requests for one model."""

    model: str
    source: str  # name of the file, "samples" or "synthetic" (random values: the model has no sample images)
    bodies: tuple[bytes, ...]
    headers: dict[str, str]  # HTTP headers that the bodies need
    answer_bytes: int  # size of a complete answer; 0 where open dimensions or strings leave it unknown
    path: str = ""  # of HTTP requests; empty for Triton's of an inference
    stream: str = ""  # see `loadtest.generator.lane.Target`


def payload(client: Client, model: str, samples: Path, batch: int, file: Path | None = None) -> Payload:
    """Encode requests for one model in the client's protocol: the rows of a file, else samples, else random values.

    Raises:
        InvalidInput: the batch is larger than the model's maximum, an input has a datatype without random values, or
            the file cannot be read or does not fit the model.
        ClientError: the server has no such model.
    """
    contract = client.contract(model)
    source, batches = (file.name, _rows(contract, file, batch)) if file else inputs(contract, samples, batch)
    for arrays in batches:
        contract.check(arrays)
    spec = contract.outputs[0]
    dtype, size = triton_to_np_dtype(spec.datatype), 0
    if spec.datatype != "BYTES" and dtype is not None and min(spec.dims, default=1) > 0:
        size = int(np.prod(spec.dims)) * np.dtype(dtype).itemsize * max(1, batch * contract.batched)
    if client.connection.protocol == "grpc":
        return Payload(model, source, tuple(_grpc_body(contract, arrays) for arrays in batches), {}, size)
    encoded = [_http_body(contract, arrays) for arrays in batches]
    # One header for all: the JSON in front of the tensors is padded to the longest.
    longest = max(length for _, length in encoded)
    bodies = tuple(body[:length].ljust(longest) + body[length:] for body, length in encoded)
    return Payload(model, source, bodies, {"Inference-Header-Content-Length": str(longest)}, size)


def inputs(contract: Contract, samples: Path, batch: int, seed: int = 0) -> tuple[str, list[dict[str, Array]]]:
    """Make BODIES batches of inputs by name; returns their source (see `Payload`) and the batches.

    Random ones are others for each seed.
    """
    folder = samples / contract.model
    if not folder.is_dir():
        generator = np.random.default_rng(seed)
        return "synthetic", [
            {spec.name: _random(contract, spec, batch, generator) for spec in contract.inputs} for _ in range(BODIES)
        ]
    read, finish = image_readers(contract)
    images = [finish(read(path)[None])[0] for path in image_files([folder])]
    picks = np.arange(BODIES * batch).reshape(BODIES, batch) % len(images)
    return "samples", [{contract.inputs[0].name: np.stack([images[row] for row in rows])} for rows in picks]


def _rows(contract: Contract, file: Path, batch: int) -> list[dict[str, Array]]:
    """Make BODIES batches of the rows of a .npy or .npz, again from the first one after the last."""
    if file.suffix not in (".npy", ".npz") or not file.is_file():
        raise InvalidInput(f"--payload {file}: expected a .npy file, or a .npz file with an array for each input")
    source, size = array_source(file, contract, Path(tempfile.gettempdir())), batch if contract.batched else 1
    picks = np.arange(BODIES * size).reshape(BODIES, size) % source.rows
    batches = [[source.load(range(row, row + 1))[0][0] for row in rows] for rows in picks.tolist()]
    if not contract.batched:
        return [rows[0] for rows in batches]
    return [{name: np.concatenate([row[name] for row in rows]) for name in rows[0]} for rows in batches]


def _random(contract: Contract, spec: TensorSpec, batch: int, generator: np.random.Generator) -> Array:
    dtype = triton_to_np_dtype(spec.datatype)
    if spec.datatype == "BYTES" or dtype is None:
        raise InvalidInput(
            f"{contract.model}: there are no random values for input '{spec.name}' of type {spec.datatype}; give real "
            "ones with --payload FILE (a .npy, or a .npz with an array for each input), or images with --samples"
        )
    is_image = spec.datatype == "UINT8" and len(spec.dims) == len(_IMAGE)
    sizes = _IMAGE if is_image else (_OPEN_DIM,) * len(spec.dims)
    dims = [size if dim < 0 else dim for dim, size in zip(spec.dims, sizes, strict=True)]
    shape = ([batch] if contract.batched else []) + dims
    if np.issubdtype(dtype, np.integer) or dtype is bool:
        return np.asarray(generator.integers(0, 256 if is_image else 2, shape)).astype(dtype)
    return np.asarray(generator.standard_normal(shape)).astype(dtype)


def _http_body(contract: Contract, arrays: dict[str, Array]) -> tuple[bytes, int]:
    """A body in Triton's binary tensor format, and the length of the JSON at its start."""
    from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

    tensors = [
        InferInput(spec.name, list(arrays[spec.name].shape), spec.datatype).set_data_from_numpy(arrays[spec.name])
        for spec in contract.inputs
    ]
    outputs = [InferRequestedOutput(contract.outputs[0].name)]
    body, length = InferenceServerClient.generate_request_body(tensors, outputs=outputs)
    return bytes(body), int(length)


def _grpc_body(contract: Contract, arrays: dict[str, Array]) -> bytes:
    from tritonclient.grpc.service_pb2 import ModelInferRequest

    request = ModelInferRequest(model_name=contract.model)
    for spec in contract.inputs:
        request.inputs.add(name=spec.name, datatype=spec.datatype, shape=arrays[spec.name].shape)
        array = arrays[spec.name]
        is_text = array.dtype == np.object_
        request.raw_input_contents.append(serialize_byte_tensor(array).item() if is_text else array.tobytes())
    request.outputs.add(name=contract.outputs[0].name)
    return bytes(request.SerializeToString())
