"""The server that is verified: one of our own, or how to reach one that runs."""

from collections.abc import Sequence
from pathlib import Path

from clients.command import say
from clients.connection import Connection, Protocol
from tools.export import pipelines
from tools.repository import versions
from tools.serve.tritonserver import Options


def connections(http: str, grpc: str) -> dict[Protocol, Connection]:
    """A server's addresses by protocol."""
    return {"http": Connection("http", http), "grpc": Connection("grpc", grpc)}


def embedded(models: Sequence[str], repository: Path, hardware: str, public_key: Path | None = None) -> Options:
    """A server for these models and what they need, as far as there is a version of it, and no others."""
    needed = {member for model in models for member in [*pipelines.all_members(model, repository), model]}
    loads = [f"--load-model={model}" for model in sorted(needed) if versions(model, repository)]
    flags = ["--model-control-mode=explicit", *loads]
    return Options(repository, hardware=hardware, ready_timeout=300, flags=flags, public_key=public_key, on_log=say)
