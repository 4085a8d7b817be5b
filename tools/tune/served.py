"""A model on a server in explicit mode that takes on one choice after another.

The embedded server is one of its own; a server elsewhere must run with --model-control-mode=explicit, and gets the
config that it had back at the end. Nothing is written into its repository: a config goes with the load request.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.json_format import ParseDict
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from clients.client import Client
from clients.connection import Connection, connection_from
from tools.cpu_config import derive_cpu_config
from tools.repository import as_triton_json, read_config, versions
from tools.serve.hardware import use_gpu
from tools.serve.tritonserver import Options, Server
from tools.tune.candidates import Candidate, TuningError, applied

EXPLICIT = "--model-control-mode=explicit"


@dataclass(frozen=True)
class Served:
    """A model that is being tuned.

    Attributes:
        client: to its server.
        base: its config as it is committed, for the kind of instances that it is served with.
        own: the embedded server; None where it is somebody else's.
    """

    client: Client
    model: str
    base: ModelConfig
    own: Server | None

    @property
    def gpu(self) -> bool:
        """Whether instances are on a GPU."""
        return any(group.kind == ModelInstanceGroup.KIND_GPU for group in self.base.instance_group)

    def take_on(self, candidate: Candidate) -> None:
        """Serve the model with a choice; comes back when it is ready.

        Raises:
            ClientError: the server does not load it.
        """
        self.check()
        # Unloaded first: instances of both choices together would take twice the memory, and the old ones' time.
        self.client.unload(self.model)
        self.client.load(self.model, as_triton_json(applied(candidate, self.base)))

    def check(self) -> None:
        """Raise ServerError when the embedded server has died."""
        if self.own:
            self.own.check()


@contextmanager
def embedded(
    models: list[str], repository: Path, hardware: str, protocol: str, timeout_s: float
) -> Iterator[list[Served]]:
    """Models of a repository on a server of their own.

    Raises:
        RepositoryError: a model does not exist.
        TuningError: it has no version.
        ServerError: the server does not start.
    """
    for model in models:
        if read_config(model, repository=repository) and not versions(model, repository):
            raise TuningError(f"{model} has no version; run `python -m tools.export {model}`")
    flags = (EXPLICIT, *(f"--load-model={model}" for model in models))
    gpu = use_gpu(hardware)
    with Server(Options(repository, hardware="gpu" if gpu else "cpu", flags=flags)) as server:
        connection = Connection(protocol, server.address(protocol), timeout_s=timeout_s, retries=0)  # type: ignore[arg-type]
        with Client(connection) as client:
            yield [Served(client, model, base_of(model, repository, gpu), server) for model in models]


def base_of(model: str, repository: Path, gpu: bool) -> ModelConfig:
    """The committed config, for instances of the kind that there is; an earlier tuning is no part of it."""
    config = read_config(model, repository=repository)
    return config if gpu else derive_cpu_config(config)


@contextmanager
def elsewhere(models: list[str], connection: Connection) -> Iterator[list[Served]]:
    """Models of a server that runs already, with the configs that they have there.

    Raises:
        ClientError: it does not answer, or has no such model.
    """
    with Client(connection) as client:
        bases = {model: ParseDict(client.config(model), ModelConfig(), ignore_unknown_fields=True) for model in models}
        try:
            yield [Served(client, model, bases[model], None) for model in models]
        finally:
            for model in models:
                client.load(model)


@contextmanager
def served(models: list[str], arguments: argparse.Namespace) -> Iterator[list[Served]]:
    """Models, on the server that the arguments name or on one of their own."""
    if arguments.url:
        with elsewhere(models, connection_from(arguments)) as found:
            yield found
        return
    repository = arguments.repository.resolve()
    with embedded(models, repository, arguments.hardware, arguments.protocol, arguments.timeout) as found:
        yield found
