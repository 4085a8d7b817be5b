"""API keys: who may pass the door.

A file holds their hashes, in the form of a HAProxy map:

    <SHA-256 of the key, hexadecimal> <client>:<role>:<requests per second, 0 for any number>

A key is 256 random bits, so nobody can find one by trying; a hash made slow, as for passwords that people choose, would
protect nothing more, and cost every request its time.
"""

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clients.output import write_atomically
from tools.front.options import FrontError

CALLER, OPERATOR = "caller", "operator"
_LINE = re.compile(r"([0-9a-f]{64})\s+([\w.@-]{1,64}):(caller|operator):(\d{1,9})", re.ASCII)
_NAME = re.compile(r"[\w.@-]{1,64}", re.ASCII)


@dataclass(frozen=True)
class Key:
    """A client's key, without the key itself."""

    digest: str
    client: str
    role: str
    rate: int  # requests per second; 0 for any number

    def __str__(self) -> str:
        return f"{self.digest} {self.client}:{self.role}:{self.rate}"


def read_keys(path: Path) -> list[Key]:
    """All keys of a file.

    Raises:
        FrontError: it does not exist, or a line is not a key.
    """
    try:
        lines = path.read_text("ascii").splitlines()
    except FileNotFoundError as error:
        raise FrontError(f"{path} does not exist; `python -m tools.front keys add {path} NAME` makes it") from error
    except UnicodeError as error:
        raise FrontError(f"{path} holds no keys: {error}") from error
    keys = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise FrontError(f"{path}:{number} is no key; expected SHA256 CLIENT:caller|operator:RATE")
        keys.append(Key(match[1], match[2], match[3], int(match[4])))
    return keys


def add_key(path: Path, client: str, role: str, rate: int) -> str:
    """Add a key for a client; returns the key, which is written nowhere.

    Raises:
        FrontError: the name is not usable, or has a key.
    """
    if not _NAME.fullmatch(client):
        raise FrontError(f"CLIENT: expected a name of letters, digits, '_', '.', '@' and '-', got '{client}'")
    keys = read_keys(path) if path.exists() else []
    if any(key.client == client for key in keys):
        raise FrontError(f"{client} has a key in {path}; revoke it first, or choose another name")
    secret = secrets.token_urlsafe(32)
    _write(path, [*keys, Key(hashlib.sha256(secret.encode()).hexdigest(), client, role, rate)])
    return secret


def revoke_key(path: Path, client: str) -> None:
    """Remove a client's key; FrontError if there is none."""
    keys = read_keys(path)
    left = [key for key in keys if key.client != client]
    if len(left) == len(keys):
        known = ", ".join(key.client for key in keys) or "nobody"
        raise FrontError(f"{client} has no key in {path}; keys are held by {known}")
    _write(path, left)


def _write(path: Path, keys: Sequence[Key]) -> None:
    write_atomically(path, "".join(f"{key}\n" for key in keys))
    path.chmod(0o600)
