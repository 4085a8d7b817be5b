"""Parts of a very large inference, done by the workers of a Ray cluster.

Ray does again what was under way on a worker that is lost. Rows do not pass through Ray: a worker reads those of its
part itself, and writes the part. So its tasks are enough: Ray Data moves rows between machines, in blocks that it cuts
by their size, which are no parts that another run finds again.
"""

import itertools
import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from clients.batch.folder import Execute
from clients.batch.parts import Record
from clients.batch.work import Failure, Part, Work, do_part
from clients.connection import host_and_port, is_address
from clients.errors import InvalidInput, ServerUnavailable, ToolError
from clients.installation import PACKAGE, how_to_install
from clients.lifetime import ending_all
from clients.output import printable

# A part whose worker is lost so often is what ends it: by the memory that it needs, say.
_LOST = 5
_REACHABLE_S = 5.0
_OLDEST = (2, 52)
_STORE_BYTES = 100 * 2**20


def on_ray(address: str, workers: int) -> Execute:
    """What does parts on a Ray cluster, or on one that it starts on this host ("local"), `workers` at once.

    Raises:
        InvalidInput: Ray is not installed, or too old.
        ServerUnavailable: no cluster is at the address.
    """
    # Before Ray is imported; a cluster that runs has its own setting.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
    if address == "local":
        # Else Ray would make a token for all clusters of this user, in his home.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    elif address != "auto":
        _reach(address)
    try:
        import ray
    except ImportError as error:
        raise InvalidInput(f"--ray needs Ray ({error}); run {how_to_install('ray')}") from error
    if tuple(map(int, ray.__version__.split(".")[:2])) < _OLDEST:
        # Before, it knows no tokens: everybody who reaches this host could run programs.
        oldest = ".".join(map(str, _OLDEST))
        raise InvalidInput(f"--ray needs Ray {oldest} or later, got {ray.__version__}; run {how_to_install('ray')}")

    def execute(work: Work, parts: Sequence[Part]) -> Generator[Record | Failure, None, None]:
        if parts:
            with _started(ray) if address == "local" else _connected(ray, address):
                yield from _done(ray, work, parts, workers)

    return execute


@contextmanager
def _started(ray: Any) -> Iterator[None]:
    """A cluster of this host alone, which nobody else reaches."""
    folder = tempfile.mkdtemp(prefix="ray-")
    own = {"object_store_memory": _STORE_BYTES, "_node_ip_address": "127.0.0.1", "_temp_dir": folder}
    try:
        # Ray's agents look only now and then whether the others still are.
        with ending_all(), _initialised(ray, address="local", include_dashboard=False, **own):
            yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _connected(ray: Any, address: str) -> Iterator[None]:
    """A cluster that runs: its machines get the code of this command."""
    code = Path(__file__).parents[2 if PACKAGE else 1]
    with _initialised(ray, address=address, runtime_env={"py_modules": [str(code)]}):
        yield


def _reach(address: str) -> None:
    """Raise where nothing listens: Ray itself would try for a minute."""
    if not is_address(address):
        raise InvalidInput(
            f"--ray {address}: expected HOST:PORT of a cluster's head (Ray's own is 6379), auto or local"
        )
    try:
        socket.create_connection(host_and_port(address), _REACHABLE_S).close()
    except OSError as error:
        raise ServerUnavailable(
            f"no Ray cluster answers at {address} ({error.strerror or error}); start one with `ray start --head`, or "
            "give --ray local"
        ) from error


@contextmanager
def _initialised(ray: Any, **options: Any) -> Iterator[None]:
    """Start or join a cluster in a thread, where no signal interrupts it: half begun, Ray may crash this process.

    The thread stays as long as the block, because Ray's processes end with it.
    """
    logging.getLogger("ray").setLevel(logging.ERROR)
    options |= {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    with ThreadPoolExecutor(1) as thread:
        try:
            try:
                thread.submit(ray.init, **options).result()
            except (ConnectionError, RuntimeError, ValueError, TimeoutError, ray.exceptions.RayError) as error:
                raise ServerUnavailable(f"--ray {options['address']}: {str(error).strip()}") from error
            with redirect_stdout(sys.stderr):  # Ray tells of workers that are lost.
                yield
        finally:
            thread.submit(ray.shutdown).result()


def _done(ray: Any, work: Work, parts: Sequence[Part], workers: int) -> Iterator[Record | Failure]:
    """Have parts done by tasks, each in the place of one that has ended; which one it is does not matter."""
    task, waiting = ray.remote(do_part).options(max_retries=_LOST), iter(parts)
    under_way = {task.remote(work, part): part for part in itertools.islice(waiting, workers)}
    while under_way:
        (ended,), _ = ray.wait(list(under_way), num_returns=1)
        part = under_way.pop(ended)
        under_way |= {task.remote(work, part): part for part in itertools.islice(waiting, 1)}
        try:
            yield ray.get(ended)
        except ray.exceptions.RayError as error:
            yield Failure(part.index, _failure(ray, part, error))


def _failure(ray: Any, part: Part, error: Exception) -> ToolError:
    """What ended a part, in one line."""
    crashes = ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError
    if isinstance(error, crashes):
        reason = " ".join(str(error).split())
        return ToolError(f"part {part.index} lost its worker {_LOST + 1} times: {reason:.300}")
    # The last line of a worker's traceback.
    cause = getattr(error, "cause", None) or error
    *_, reason = str(cause).strip().splitlines() or ["no more is known"]
    return ToolError(
        f"part {part.index} cannot be done on the cluster: {type(cause).__name__}: {printable(reason):.300}; its "
        "machines need the versions of Python, Ray and the packages that this one has"
    )
