"""Key pairs to sign versions with and to verify them."""

import os
from pathlib import Path

from tools.repository import RepositoryError

PRIVATE, PUBLIC = "private.pem", "public.pem"


def new_key(folder: Path) -> tuple[Path, Path]:
    """Create a key pair on the curve P-256 and return the paths; only the owner may read the private key.

    Raises:
        RepositoryError: a file of that name exists, or cannot be written.
    """
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    public = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    paths = folder / PRIVATE, folder / PUBLIC
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            if path.exists():
                raise FileExistsError(0, "it exists, and keys are never overwritten", str(path))
        for path, content, mode in zip(paths, (private, public), (0o600, 0o644), strict=True):
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
                stream.write(content)
    except OSError as error:
        raise RepositoryError(f"no key created: {error.filename}: {error.strerror}; use another folder") from error
    return paths
