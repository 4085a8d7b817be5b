"""A version on a server beside the one that is served: loaded, warmed and queried under a name of its own.

Triton gives a request that names no version the greatest one that is loaded. A candidate that was loaded beside the
others as a version would therefore get all traffic before anybody has seen it answer. So it is sent to the server with
a load request that carries config and files, as a model `<name>.v<version>` that no caller asks for.
https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/extension_model_repository.html
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.json_format import MessageToDict

from clients.client import Client
from clients.errors import ModelNotFound, RequestRejected, ServerFailed, ToolError
from tools.repository import (
    CPU_CONFIG,
    REPOSITORY,
    RepositoryError,
    config_path,
    held_versions,
    hold,
    read_config,
    version_path,
    versions,
)
from tools.sign.signatures import refuse_breached
from tools.verify.verification import Verification, check_files


class RefusedError(ToolError):
    """A version was not promoted, perhaps for its failed verification; what was served before still is."""

    exit_code = 1

    def __init__(self, message: str, verification: Verification | None = None):
        super().__init__(message)
        self.verification = verification


@dataclass(frozen=True)
class Candidate:
    """A version on a server; `name` is what it is called there, `before` the version that it may replace."""

    model: str
    version: int
    name: str
    before: int | None

    def __str__(self) -> str:
        return f"{self.model} version {self.version}"


def candidate_name(model: str, version: int) -> str:
    """The name under which a server has a candidate."""
    return f"{model}.v{version}"


@contextmanager
def beside(
    client: Client, model: str, version: int, repository: Path = REPOSITORY, public_key: Path | None = None
) -> Iterator[Candidate]:
    """Have a version on a server beside the one that is served, for as long as the block lasts.

    It is held from here on, so that a server that starts does not find it by itself. Given a `public_key`, it is
    refused unless it was signed with the private key to it. The client's timeout must allow a load.

    Raises:
        RepositoryError: there is no such version, it is served already, or it is not what was signed.
        RefusedError: the server cannot load it.
    """
    check_policy(model, repository)
    if version not in every_version(model, repository):
        numbers = ", ".join(map(str, every_version(model, repository)))
        raise RepositoryError(f"{model} has no version {version}; there are: {numbers}")
    before = served_version(client, model)
    if version == before == serving(model, repository):
        raise RepositoryError(f"{model} version {version} is served already")
    # Before the server gets them: what it once failed to load is hard to make it forget.
    check_files(model, version, repository)
    if public_key:
        refuse_breached([(model, version)], public_key, repository)
    if version != before and version in versions(model, repository):
        hold(model, version, repository)
    candidate = Candidate(model, version, candidate_name(model, version), before)
    try:
        _load(client, candidate, _files(model, version, repository), repository)
    except (RequestRejected, ServerFailed) as error:
        _clear_failure(client, candidate, repository)
        remedy = "a server takes load requests with --model-control-mode=explicit, as tools.serve starts it"
        raise RefusedError(f"{candidate} cannot be loaded, and is held: {error} ({remedy})") from error
    try:
        yield candidate
    finally:
        client.unload(candidate.name)


def every_version(model: str, repository: Path) -> list[int]:
    """List served, kept and held versions, oldest first; raises RepositoryError if there is none."""
    everything = sorted(versions(model, repository) + held_versions(model, repository))
    if not everything:
        raise RepositoryError(f"{model} has no version; run `python -m tools.export {model}`")
    return everything


def serving(model: str, repository: Path) -> int | None:
    """The version that a server would serve that starts now."""
    return max(versions(model, repository), default=None)


def check_policy(model: str, repository: Path) -> None:
    """Raise RepositoryError if a model's config chooses versions by number: where folders lie then decides nothing."""
    if read_config(model, repository=repository).version_policy.HasField("specific"):
        raise RepositoryError(
            f"{model}/config.pbtxt names versions in version_policy; change it to `latest` to promote any"
        )


def served_version(client: Client, model: str) -> int | None:
    """The version that a request without one goes to; None where the server has none ready."""
    ready = [entry for entry in client.models() if entry["name"] == model and entry.get("state") == "READY"]
    return max((int(entry["version"]) for entry in ready), default=None)


def settle(client: Client) -> None:
    """Wait until the server says that it is ready, which it does not for some seconds while a model's process ends.

    The other models are served all the while, and say that they are ready at /v2/models/NAME/ready.
    """
    deadline = time.monotonic() + 30
    while not client.is_ready() and time.monotonic() < deadline:
        time.sleep(0.1)


def _clear_failure(client: Client, candidate: Candidate, repository: Path) -> None:
    # The server has to load the served version under the candidate's name. Until then tritonserver would say that it is
    # not ready, forever and whatever is unloaded (seen in 2.51), and a load balancer would take it out of service.
    served = candidate.before
    if served is None or not version_path(candidate.model, served, repository).is_dir():
        return
    files = _files(candidate.model, served, repository)
    moved = {path.replace(f"{served}/", f"{candidate.version}/", 1): content for path, content in files.items()}
    with suppress(RequestRejected, ServerFailed):
        _load(client, candidate, moved, repository)
        client.unload(candidate.name)


def _load(client: Client, candidate: Candidate, files: dict[str, bytes], repository: Path) -> None:
    """Load files as a candidate, with the first config that the server takes.

    That is the one that the server uses for the model; where it has none loaded, those that it may be meant to use.
    """
    model = candidate.model
    try:
        configs = [client.config(model)]
    except (ModelNotFound, RequestRejected):
        names = [name for name in (None, CPU_CONFIG) if config_path(model, name, repository).is_file()]
        messages = [read_config(model, name, repository) for name in names]
        configs = [MessageToDict(message, preserving_proto_field_name=True) for message in messages]
    failures: list[RequestRejected | ServerFailed] = []
    for config in configs:
        try:
            return client.load(candidate.name, {**config, "name": candidate.name}, files)
        except (RequestRejected, ServerFailed) as error:
            failures.append(error)
    raise failures[0]


def _files(model: str, version: int, repository: Path) -> dict[str, bytes]:
    # Also the labels beside the version, by their paths within the model's folder.
    folder = version_path(model, version, repository)
    own = {f"{version}/{path.name}": path.read_bytes() for path in folder.iterdir() if path.is_file()}
    return own | {path.name: path.read_bytes() for path in (repository / model).glob("*.txt")}
