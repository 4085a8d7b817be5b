"""The offline stand-in for CIFAR-10: drawn silhouettes of its ten classes, 32x32 pixels, RGB.

Every image varies the shape, size, angle, position and colours of its class, and adds clutter, occlusion and noise.
They are written as CIFAR-10 batch files that torchvision's CIFAR10 class reads, in their own folder. Drawn once:
remove the folder after changing this file or `tools.datasets.drawing`.
"""

import hashlib
import json
import pickle
from pathlib import Path

import numpy as np

from clients.command import progress
from tools.datasets import Split, cifar10, drawing
from tools.datasets.files import reading, staged
from tools.torchvision_import import load_torchvision

TITLE = "procedural silhouettes (stand-in for CIFAR-10)"
STAND_IN = True
CLASSES = cifar10.CLASSES
FOLDER = "silhouettes-batches-py"
META = "batches.meta"
# torchvision compares MD5 sums: those of CIFAR-10 are in its source, these are written next to the data.
CHECKSUMS = "checksums.json"
PER_BATCH = 4_000
SEED = 10


def files(root: Path) -> list[Path]:
    """List the six batch files."""
    return [root / FOLDER / name for name in cifar10.BATCH_FILES]


def splits(root: Path, download: bool) -> tuple[Split, Split]:
    """Read both sets, drawn the first time (`download` has no effect); DataError if damaged or not writable."""
    if not (root / FOLDER / CHECKSUMS).is_file():
        write(root)
    with reading(TITLE, root / FOLDER, "remove that folder, and it is drawn again"):
        return cifar10.read(loader(root), root, download=False)


def loader(root: Path) -> type:
    """Subclass torchvision's CIFAR10 so that it reads our folder and expects our checksums."""
    sums = json.loads((root / FOLDER / CHECKSUMS).read_text())
    *train, test = [[name, sums[name]] for name in cifar10.BATCH_FILES]
    meta = {"filename": META, "key": "label_names", "md5": sums[META]}
    differences = {"base_folder": FOLDER, "train_list": train, "test_list": [test], "meta": meta}
    return type("SilhouettesStandIn", (load_torchvision().datasets.CIFAR10,), differences)


def write(root: Path, per_batch: int = PER_BATCH) -> None:
    """Draw all batches, with this many images each; the whole set takes about 12 seconds on one core."""
    with staged(root / FOLDER) as folder:
        sums = {META: _put(folder / META, {"label_names": list(CLASSES)})}
        for number, name in enumerate(progress(cifar10.BATCH_FILES, "drawing silhouettes")):
            random = np.random.default_rng([SEED, number])
            labels = random.permutation(np.arange(per_batch) % len(CLASSES))
            images = np.stack([drawing.draw(CLASSES[label], random) for label in labels])
            # As in CIFAR-10: rows of 3,072 bytes, red plane first, and a list of labels.
            rows = images.transpose(0, 3, 1, 2).reshape(per_batch, -1)
            sums[name] = _put(folder / name, {"data": rows, "labels": labels.tolist()})
        (folder / CHECKSUMS).write_text(json.dumps(sums, indent=2))


def _put(path: Path, content: dict[str, object]) -> str:
    # Pickle with the protocol of CIFAR-10's own files, and return the MD5 sum for torchvision.
    data = pickle.dumps(content, protocol=2)
    path.write_bytes(data)
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
