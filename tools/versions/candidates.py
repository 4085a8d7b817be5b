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

from clients.client import Client
from clients.errors import ModelNotFound, RequestRejected, ServerFailed, ToolError
from tools.repository import (
    CPU_CONFIG,
    REPOSITORY,
    RepositoryError,
    as_triton_json,
    config_path,
    held_versions,
    hold,
    read_config,
    selected_versions,
    version_path,
    versions,
)
from tools.sign.signatures import refuse_breached
from tools.verify.verification import Verification, check_files

LOAD_SECONDS = 300.0


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
        raise RepositoryError(f"{model} version {version} is served already; `sync` brings up replicas that differ")
    # Before the server gets them: what it once failed to load is hard to make it forget.
    check_files(model, version, repository)
    if public_key:
        refuse_breached([(model, version)], public_key, repository)
    if version != before and version in versions(model, repository):
        hold(model, version, repository)
    candidate = Candidate(model, version, candidate_name(model, version), before)
    try:
        load_files(client, model, candidate.name, version_files(model, version, repository), repository)
    except (RequestRejected, ServerFailed) as error:
        clear_failure(client, candidate, repository)
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
        read_config(model, repository=repository)  # raises, and names the models that there are
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


def clear_failure(client: Client, failed: Candidate, repository: Path) -> None:
    """Make a server forget that it could not load a candidate, perhaps in the model's own name.

    It has to load the version that it serves in the candidate's place. Until then tritonserver would say that it is not
    ready, whatever is unloaded (seen in 2.51), and a load balancer would take it out of service.
    """
    served, model = failed.before, failed.model
    if served is None or not version_path(model, served, repository).is_dir():
        return
    files = version_files(model, served, repository)
    moved = {path.replace(f"{served}/", f"{failed.version}/", 1): content for path, content in files.items()}
    with suppress(RequestRejected, ServerFailed):
        load_files(client, model, failed.name, moved, repository)
        if failed.name == model:
            load_files(client, model, model, served_files(model, served, repository), repository)
        else:
            client.unload(failed.name)
    settle(client)


def load_files(client: Client, model: str, name: str, files: dict[str, bytes], repository: Path) -> None:
    """Load versions of a model from a request that carries their files, under a name, with a config that is taken.

    That is the one that the server uses for the model; where it has none loaded, those that it may be meant to use.

    Raises:
        RequestRejected, ServerFailed: the server cannot load it; it goes on with what it had under that name.
    """
    try:
        configs = [client.config(model)]
    except (ModelNotFound, RequestRejected):
        names = [each for each in (None, CPU_CONFIG) if config_path(model, each, repository).is_file()]
        configs = [as_triton_json(read_config(model, each, repository)) for each in names]
    failures: list[RequestRejected | ServerFailed] = []
    for config in configs:
        try:
            # All that are sent are to be served, whatever the policy is.
            return client.load(name, {**config, "name": name, "version_policy": {"all": {}}}, files)
        except (RequestRejected, ServerFailed) as error:
            failures.append(error)
    raise failures[0]


def version_files(model: str, version: int, repository: Path) -> dict[str, bytes]:
    """A version's files, and the labels beside it, by their paths within the model's folder."""
    folder = version_path(model, version, repository)
    own = {f"{version}/{path.name}": path.read_bytes() for path in folder.iterdir() if path.is_file()}
    return own | {path.name: path.read_bytes() for path in (repository / model).glob("*.txt")}


def served_files(model: str, version: int, repository: Path) -> dict[str, bytes]:
    """The files of all versions that a server would serve if this one were the newest."""
    visible = [each for each in versions(model, repository) if each < version]
    selected = selected_versions(read_config(model, repository=repository), [*visible, version])
    return {path: data for each in selected for path, data in version_files(model, each, repository).items()}
