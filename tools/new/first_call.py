"""A new model's first call: the real embedded server loads it, answers once, and says what the network itself says."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from clients.client import Client
from clients.connection import Connection
from clients.contract import Array
from clients.errors import ClientError
from tools import torchscript
from tools.contract import Value
from tools.export import imported
from tools.export.agreement import BATCH_TOLERANCE, ProofError
from tools.export.calling import Served
from tools.recipes import Imported
from tools.serve.server_error import ServerError
from tools.serve.tritonserver import Options, Server


def serve_and_call(
    model: str, network: nn.Module, recipe: Imported, repository: Path, hardware: str = "auto", timeout: float = 120.0
) -> float:
    """Serve a repository and call one of its models.

    Args:
        model: its name.
        network: what it was made from.
        recipe: how it was made.
        repository: holds a version of it.
        hardware: one of `tools.server.hardware.HARDWARE`.
        timeout: seconds for loading, and again for the call.

    Returns:
        The largest absolute difference between the answer and the network's own.

    Raises:
        ProofError: the server does not load it, refuses the call, or answers otherwise.
    """
    try:
        with Server(Options(repository, hardware=hardware, ready_timeout=timeout)) as server:
            return call(server, model, network, recipe, repository, timeout)
    except ServerError as error:
        raise ProofError(f"the server does not load {model}: {error}") from error


def call(
    server: Server, model: str, network: nn.Module, recipe: Imported, repository: Path, timeout: float = 120.0
) -> float:
    """The same with a server that runs."""
    served = imported.served_as(network, model, recipe, repository)
    inputs, values = request(served, model, recipe, repository)
    try:
        with Client(Connection("grpc", server.grpc, timeout_s=timeout)) as client:
            answer = client.infer(model, inputs)
    except ClientError as error:
        raise ProofError(f"the server loads {model} but refuses a call that its config admits: {error}") from error
    return compare(answer, torchscript.outputs(served, *values), model, repository)


def request(served: Served, model: str, recipe: Imported, repository: Path) -> tuple[dict[str, Array], list[Value]]:
    """An input that config.pbtxt admits, by name as clients send it, and in the order of the network's arguments."""
    values = imported.example_values(served, model, recipe, repository)
    names = imported.input_names(served, model, repository)
    return {name: to_array(value) for name, value in zip(names, values, strict=True)}, values


def to_array(value: Value) -> Array:
    """A value as clients have it: texts as UTF-8."""
    if isinstance(value, list):
        return np.array([text.encode() for text in value], np.object_)
    array: Array = value.numpy()
    return array


def compare(answer: Mapping[str, Array], expected: tuple[Value, ...], model: str, repository: Path) -> float:
    """The largest difference between the server's answer and the network's.

    Raises:
        ProofError: they are not the same up to rounding.
    """
    worst = 0.0
    outputs = imported.output_places(model, repository)
    for name, place in outputs.items():
        found, wanted = answer[name], to_array(expected[place])
        if found.shape != wanted.shape or found.dtype != wanted.dtype:
            raise ProofError(
                f"{name}: the server answers {found.dtype} {list(found.shape)}, "
                f"the network {wanted.dtype} {list(wanted.shape)}"
            )
        if found.dtype == np.object_:
            difference = 0.0 if (found == wanted).all() else float("inf")
        else:
            pair = (torch.from_numpy(np.array(each)).double() for each in (found, wanted))
            difference = float(torch.nan_to_num(next(pair) - next(pair)).abs().max()) if found.size else 0.0
        if difference > BATCH_TOLERANCE * max(1.0, scale(wanted)):
            raise ProofError(f"{name}: the server's answer differs from the network's by {difference:g}")
        worst = max(worst, difference)
    return worst


def scale(array: Array) -> float:
    """The largest magnitude in an array of numbers."""
    if array.dtype == np.object_ or not array.size:
        return 0.0
    return float(np.abs(np.nan_to_num(array.astype(np.float64))).max())
