"""Several servers of one model repository: which version each of them serves, and how one is made to serve another.

A version reaches a replica in a load request that carries config and files, under the model's own name. So it can be
served by one replica and not by the next, whether they share the repository's folder or each has its own; the folder,
which decides what a server starts on, changes only once a version is served everywhere.
"""

import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from clients.client import Client
from clients.connection import Connection, Protocol, at_port, default_url, host_and_port, is_address
from clients.errors import ClientError, InvalidInput, RequestRejected, ServerFailed
from tools.repository import RepositoryError
from tools.sign.signatures import refuse_breached
from tools.verify.verification import check_files
from tools.versions.candidates import (
    LOAD_SECONDS,
    Candidate,
    check_policy,
    clear_failure,
    load_files,
    served_files,
    served_version,
    serving,
    settle,
)

_LOOK_SECONDS = 5.0
_AT_ONCE = 8


@dataclass(frozen=True)
class Replica:
    """A server by its addresses, HOST:PORT."""

    http: str
    grpc: str

    def __str__(self) -> str:
        return self.http

    def connection(self, protocol: Protocol, timeout_s: float = _LOOK_SECONDS, retries: int = 1) -> Connection:
        """Where it is."""
        return Connection(protocol, self.http if protocol == "http" else self.grpc, timeout_s, retries)


@dataclass(frozen=True)
class Standing:
    """What a replica serves: a version, or none; `problem` says why nobody knows, or why it serves no other."""

    replica: Replica
    version: int | None = None
    problem: str = ""


def replicas_at(urls: Sequence[str], grpc_urls: Sequence[str] = ()) -> list[Replica]:
    """The servers at HTTP addresses; a name of several addresses, such as a headless Service's, is as many servers.

    Where gRPC's addresses are not given, they are at the port after HTTP's, of a single server at the default.

    Raises:
        InvalidInput: one is no HOST:PORT, or there are more of one protocol than of the other.
    """
    http = [place for url in urls for place in _places(url)]
    if len(http) == 1 and not grpc_urls:
        return [Replica(http[0], default_url("grpc"))]
    grpc = [place for url in grpc_urls for place in _places(url)] or list(map(_next_port, http))
    if len(grpc) != len(http):
        raise InvalidInput(f"--url names {len(http)} servers, --grpc-url {len(grpc)}; give one for each")
    return [Replica(*places) for places in dict(zip(http, grpc, strict=True)).items()]


def _places(url: str) -> list[str]:
    """An address, or all that its name has."""
    if not is_address(url):
        return [Connection("http", url).url]  # It says what is wrong; a path in front of /v2 is right.
    host, port = host_and_port(url)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return [url]  # Whoever asks there hears why.
    # A name such as localhost has an address of each kind, and is one server.
    kind = min((family for family, *_ in found), key=lambda family: family != socket.AF_INET)
    addresses = sorted({str(address[0]) for family, *_, address in found if family == kind})
    return [f"[{each}]:{port}" if ":" in each else f"{each}:{port}" for each in addresses] if addresses[1:] else [url]


def _next_port(url: str) -> str:
    if not is_address(url):
        raise InvalidInput(f"expected an address HOST:PORT, got '{url}'; or give --grpc-url")
    return at_port(url, host_and_port(url)[1] + 1)


def look(replicas: Sequence[Replica], model: str) -> list[Standing]:
    """What each replica serves of a model now."""

    def ask(replica: Replica) -> Standing:
        with Client(replica.connection("http")) as client:
            return Standing(replica, served_version(client, model))

    return _of_each(replicas, ask)


def put(replicas: Sequence[Replica], model: str, version: int, repository: Path) -> list[Standing]:
    """Have replicas serve a version, and wait until they say that they are ready.

    One that fails to load it goes on with what it served; its standing says why.
    """
    files = served_files(model, version, repository)

    def load(replica: Replica) -> Standing:
        with Client(replica.connection("http", LOAD_SECONDS)) as client:
            before = served_version(client, model)
            try:
                load_files(client, model, model, files, repository)
            except (RequestRejected, ServerFailed) as error:
                clear_failure(client, Candidate(model, version, model, before), repository)
                return Standing(replica, before, str(error))
            settle(client)
            return Standing(replica, served_version(client, model))

    return _of_each(replicas, load)


def take(replicas: Sequence[Replica], model: str) -> list[Standing]:
    """Have replicas serve no version of a model."""

    def unload(replica: Replica) -> Standing:
        with Client(replica.connection("http", LOAD_SECONDS)) as client:
            client.unload(model)
            return Standing(replica)

    return _of_each(replicas, unload)


def sync(replicas: Sequence[Replica], model: str, repository: Path, public_key: Path | None = None) -> list[Standing]:
    """Have each replica serve what the repository says, as far as it does not; those that are away stay as they are.

    Raises:
        RepositoryError: the repository has no version to serve, or it is not what was signed.
    """
    wanted = serving(model, repository)
    if wanted is None:
        raise RepositoryError(f"{model} has no version that is served; promote one")
    check_policy(model, repository)
    check_files(model, wanted, repository)
    if public_key:
        refuse_breached([(model, wanted)], public_key, repository)
    before = look(replicas, model)
    behind = [each.replica for each in before if not each.problem and each.version != wanted]
    after = {each.replica: each for each in put(behind, model, wanted, repository)}
    return [after.get(each.replica, each) for each in before]


def _of_each(replicas: Sequence[Replica], ask: Callable[[Replica], Standing]) -> list[Standing]:
    def asked(replica: Replica) -> Standing:
        try:
            return ask(replica)
        except ClientError as error:
            return Standing(replica, None, str(error))

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(asked, replicas))
