"""A version on a server beside the one that is served: loaded, warmed and asked under a name of its own.

Triton gives a request that names no version the greatest one that is loaded. A candidate that were loaded beside the
others as a version would therefore get all traffic before anybody has seen it answer. So it is sent to the server with
a load request that carries config and files, as a model `<name>.v<version>`, which nobody but us asks for.
https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/extension_model_repository.html
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict

from clients.client import Client
from clients.errors import ModelNotFound, RequestRejected, ServerFailed
from tools.repository import CPU_CONFIG, REPOSITORY, config_path, read_config, version_path

SETTLE_SECONDS = 30.0


def candidate_name(model: str, version: int) -> str:
    """The name under which a server has a candidate."""
    return f"{model}.v{version}"


@contextmanager
def candidate(client: Client, model: str, version: int, repository: Path = REPOSITORY) -> Iterator[str]:
    """Have a version on a server beside what it serves, under the name that the block gets.

    Raises:
        RequestRejected, ServerFailed: the server cannot load it, or takes no load requests.
    """
    name = candidate_name(model, version)
    try:
        load(client, model, name, files_of(model, version, repository), repository)
    except (RequestRejected, ServerFailed):
        mend(client, model, version, repository)
        raise
    try:
        yield name
    finally:
        client.unload(name)


def mend(client: Client, model: str, version: int, repository: Path) -> None:
    """Let a server forget that a candidate could not be loaded: have it load the served version under that name.

    Until then tritonserver would say that it is not ready, for ever and whatever is unloaded (seen in 2.51), and
    whoever asks for that would take it out of service.
    """
    served = served_version(client, model)
    if served is None or not (version_path(model, served, repository)).is_dir():
        return
    name, files = candidate_name(model, version), files_of(model, served, repository)
    own = {path.replace(f"{served}/", f"{version}/", 1): content for path, content in files.items()}
    with suppress(RequestRejected, ServerFailed):
        load(client, model, name, own, repository)
        client.unload(name)


def served_version(client: Client, model: str) -> int | None:
    """The version that a request without one goes to; None where the server has none ready."""
    states = [one for one in client.models() if one["name"] == model and one.get("state") == "READY"]
    return max((int(one["version"]) for one in states), default=None)


def settle(client: Client) -> None:
    """Wait until the server says that it is ready, which it does not while a model's process ends: some seconds.

    The models that go on are served all the while, and say that they are ready at /v2/models/NAME/ready.
    """
    deadline = time.monotonic() + SETTLE_SECONDS
    while not client.is_ready() and time.monotonic() < deadline:
        time.sleep(0.1)


def load(client: Client, model: str, name: str, files: dict[str, bytes], repository: Path) -> None:
    """Load files under a name, with the config that the server uses for the model, or one from the repository."""
    failure: Exception | None = None
    for config in configs(client, model, repository):
        try:
            client.load(name, {**config, "name": name}, files)
        except (RequestRejected, ServerFailed) as error:
            failure = failure or error
        else:
            return
    assert failure is not None
    raise failure


def configs(client: Client, model: str, repository: Path) -> list[dict[str, Any]]:
    """The config that the server uses for a model; those that it may be meant to use where it has none loaded."""
    try:
        return [client.config(model)]
    except (ModelNotFound, RequestRejected):
        names = [name for name in (None, CPU_CONFIG) if config_path(model, name, repository).is_file()]
    read = (read_config(model, name, repository) for name in names)
    return [MessageToDict(config, preserving_proto_field_name=True) for config in read]


def files_of(model: str, version: int, repository: Path) -> dict[str, bytes]:
    """A version's files, and the labels beside it, by their paths within the model's folder."""
    folder = version_path(model, version, repository)
    own = {f"{version}/{path.name}": path.read_bytes() for path in folder.iterdir() if path.is_file()}
    return own | {path.name: path.read_bytes() for path in (repository / model).glob("*.txt")}
