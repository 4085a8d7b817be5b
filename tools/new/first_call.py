"""The first call of a new model: the real embedded server loads it and must answer as the network itself does."""

from pathlib import Path

import numpy as np
import torch

from clients.client import Client
from clients.connection import Connection
from clients.contract import Array
from clients.errors import ClientError
from tools import torchscript
from tools.contract import array_of
from tools.export.agreement import BATCH_TOLERANCE, ProofError
from tools.export.conversion import ImportedModel
from tools.new.plan import Plan
from tools.serve.server_error import ServerError
from tools.serve.tritonserver import Options, Server


def serve_and_call(plan: Plan, repository: Path, hardware: str = "auto", timeout: float = 120.0) -> float:
    """Serve a staged repository that holds a version of the planned model, and call it.

    The timeout is in seconds, for loading and again for the call. Returns the largest absolute difference between the
    answer and the network's own; raises ProofError if the server does not load it, refuses the call or differs.
    """
    try:
        with Server(Options(repository, hardware=hardware, ready_timeout=timeout)) as server:
            return call(server, plan, repository, timeout)
    except ServerError as error:
        raise ProofError(f"the server does not load {plan.design.model}: {error}") from error


def call(server: Server, plan: Plan, repository: Path, timeout: float = 120.0) -> float:
    """Call the planned model on a running server; otherwise like `serve_and_call`."""
    model = plan.design.model
    imported = ImportedModel(plan.network, model, plan.recipe, repository)
    inputs = {name: array_of(value) for name, value in zip(imported.input_names, imported.example, strict=True)}
    try:
        with Client(Connection("grpc", server.grpc, timeout_s=timeout)) as client:
            answer = client.infer(model, inputs)
    except ClientError as error:
        raise ProofError(f"the server loads {model} but refuses a call that its config admits: {error}") from error
    expected = torchscript.outputs(imported.adapter, *imported.example)
    places = imported.output_places
    return max(_check(name, answer[name], array_of(expected[place])) for name, place in places.items())


def _check(name: str, actual: Array, wanted: Array) -> float:
    # Returns the largest absolute difference.
    if actual.shape != wanted.shape or actual.dtype != wanted.dtype:
        raise ProofError(
            f"{name}: the server answers {actual.dtype} {list(actual.shape)}, "
            f"the network {wanted.dtype} {list(wanted.shape)}"
        )
    difference, limit = 0.0, 0.0
    if actual.dtype == np.object_:
        difference = 0.0 if (actual == wanted).all() else float("inf")
    elif actual.size:
        first, second = (torch.from_numpy(np.array(array)).double() for array in (actual, wanted))
        difference = float(torch.nan_to_num(first - second).abs().max())
        limit = BATCH_TOLERANCE * max(1.0, float(torch.nan_to_num(second).abs().max()))
    if difference > limit:
        raise ProofError(f"{name}: the server's answer differs from the network's by {difference:g}")
    return difference
