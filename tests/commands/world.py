"""A copy of the code and of small models, with odd files beside them, in which commands may do what they like."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.conftest import copied
from tools.repository import REPOSITORY, ROOT

MODEL = "mnist_mlp"
_CODE = ("clients", "loadtest", "tools", "deploy", "docs")


def make_world(folder: Path) -> Path:
    """Fill a folder; returns it."""
    folder.mkdir(exist_ok=True)
    for name in _CODE:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    copied(REPOSITORY, folder / "model_repository")
    samples = Path("build") / "samples" / MODEL
    shutil.copytree(ROOT / samples, folder / samples)
    (folder / "out").mkdir()
    for name in ("native", "checkpoints"):
        (folder / "build" / name).symlink_to(ROOT / "build" / name)
    _odd_files(folder / "odd")
    return folder


def _odd_files(odd: Path) -> None:
    odd.mkdir()
    np.save(odd / "rows.npy", np.zeros((40, 784), np.float32))
    np.save(odd / "doubles.npy", np.zeros((4, 784)))
    np.save(odd / "objects.npy", np.array([{}, None], object), allow_pickle=True)
    np.save(odd / "scalar.npy", np.float32(1))
    np.savez(odd / "rows.npz", INPUT__0=np.zeros((4, 784), np.float32))
    with zipfile.ZipFile(odd / "other.npz", "w") as archive:
        archive.writestr("text.txt", "text")
    for name in ("cut.npy", "cut.npz"):
        (odd / name).write_bytes((odd / name.replace("cut", "rows")).read_bytes()[:70])
    for name, text in {
        "empty": "",
        "text.json": "no JSON",
        "list.json": "[1, 2]",
        "object.json": "{}",
        "deep.json": "[" * 100_000,
        "nan.json": '{"model": NaN, "curve": [null], "rps": "x"}',
        "times.txt": "0.1\n0.2\n0.3\n",
        "net.py": "import torch\nclass Net(torch.nn.Module):\n    def forward(self, x):\n        return x * 2\n",
        "broken.py": "def broken(:\n",
        "raising.py": "raise ValueError('no')\n",
        "exiting.py": "raise SystemExit(7)\n",
    }.items():
        (odd / name).write_text(text)
    (odd / "latin.txt").write_bytes(b"caf\xe9\n")
    (odd / "noise.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    (odd / "noise.pt").write_bytes(b"PK\x03\x04" + bytes(500))
    Path(str(odd / "name-") + "\udcff.png").write_bytes(b"no image")
    (odd / "loop").symlink_to(odd / "loop")
    keys = {"rsa": rsa.generate_private_key(65537, 2048), "ed25519": ed25519.Ed25519PrivateKey.generate()}
    for name, key in keys.items():
        (odd / f"{name}.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
