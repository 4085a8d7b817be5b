"""Other servers of language models as processes that end with this one."""

import os
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from clients.errors import ToolError
from clients.lifetime import leashed

_START_SECONDS = 400.0


class PeerFailed(ToolError):
    """A server did not start; the message ends with its own."""


@dataclass(frozen=True)
class Peer:
    """A server: the precision of its weights, its command line with {port} in it, and what its environment adds."""

    name: str
    weights: str
    line: tuple[str, ...]
    environment: Mapping[str, str]


@contextmanager
def running(peer: Peer) -> Iterator[str]:
    """Run a server while the block lasts; yields HOST:PORT."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        address = f"127.0.0.1:{holder.getsockname()[1]}"
    line = leashed([word.format(port=address.rpartition(":")[2]) for word in peer.line])
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(line, env={**os.environ, **peer.environment}, stdout=log, stderr=log)
        try:
            if not _is_ready(process, address):
                raise PeerFailed(f"{peer.name} did not start: {_tail(log)}")
            yield address
        except ToolError as error:
            if process.poll() is None:
                raise
            raise PeerFailed(f"{peer.name} ended with {process.returncode}: {_tail(log)}") from error
        finally:
            process.terminate()
            process.wait(30)


def _tail(log: IO[str]) -> str:
    log.seek(0)
    return log.read()[-800:]


def _is_ready(process: "subprocess.Popen[bytes]", address: str) -> bool:
    """Whether it answers that it is well, in time."""
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"http://{address}/health", timeout=2).close()
        except (OSError, urllib.error.URLError):
            time.sleep(0.5)
        else:
            return True
    return False
