"""HAProxy's runtime API: what changes at the door without a restart."""

import csv
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from tools.front.configuration import CERTIFICATE, KEYS, SOCKET
from tools.front.keys import Key
from tools.front.options import FrontError

_PATIENCE_S = 5.0


def ask(folder: Path, command: str, payload: str = "") -> str:
    """Send a command to the HAProxy that was started in a folder; returns its answer.

    Raises:
        FrontError: it does not answer.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_PATIENCE_S)
            # By way of the folder's descriptor: the path itself may be longer than a socket's may be.
            connection.connect(f"/proc/self/fd/{descriptor}/{SOCKET}")
            connection.sendall(f"{command} <<\n{payload}\n\n".encode() if payload else f"{command}\n".encode())
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode().strip()
    except OSError as error:
        raise FrontError(f"HAProxy does not answer at its socket ({error})") from error
    finally:
        os.close(descriptor)


def replace_keys(folder: Path, keys: Sequence[Key]) -> None:
    """Let exactly these keys pass from now on.

    Raises:
        FrontError: HAProxy refuses.
    """
    version = ask(folder, f"prepare map {KEYS}").rpartition(" ")[2]
    if not version.isdigit():
        raise FrontError(f"HAProxy refuses new keys: {version}")
    if keys:
        _must(ask(folder, f"add map @{version} {KEYS}", "\n".join(map(str, keys))), "")
    _must(ask(folder, f"commit map @{version} {KEYS}"), "")


def replace_certificate(folder: Path, pem: str) -> None:
    """Show another certificate from now on; open connections stay.

    Raises:
        FrontError: HAProxy refuses it.
    """
    _must(ask(folder, f"set ssl cert {CERTIFICATE}", pem.strip()), "Transaction")
    _must(ask(folder, f"commit ssl cert {CERTIFICATE}"), "Committing")


def set_state(folder: Path, replica: str, state: str) -> None:
    """Tell HAProxy at once what the replica's agent says a moment later.

    Raises:
        FrontError: HAProxy refuses, or knows no such state.
    """
    commands = {"up": ("state ready", "agent up", "health up"), "draining": ("state drain",), "down": ("agent down",)}
    for command in commands["down" if state == "starting" else state]:
        for backend in ("http", "grpc"):
            ask(folder, f"set server {backend}/{replica} {command}")


def in_flight(folder: Path, replica: str) -> int:
    """How many requests a replica has under way.

    Raises:
        FrontError: HAProxy does not answer.
    """
    rows = csv.DictReader(ask(folder, "show stat -1 4 -1").splitlines())
    return sum(int(row["scur"]) for row in rows if row["svname"] == replica)


def _must(answer: str, expected: str) -> None:
    if expected and expected not in answer or not expected and answer:
        raise FrontError(f"HAProxy refuses: {answer}")
