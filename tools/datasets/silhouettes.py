"""The offline stand-in for CIFAR-10: silhouettes of its ten classes, drawn here, 32x32 pixels, RGB.

Every image varies the class's shape, its size, angle, place and colours, and adds clutter, something in the way, and
noise. Written as genuine CIFAR-10 batch files that torchvision's CIFAR10 class reads, in a folder of their own.
"""

import hashlib
import json
import os
import pickle
import shutil
import tempfile
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tools.datasets import Split, cifar10, drawing
from tools.torchvision_import import torchvision_datasets

TITLE = "procedural silhouettes (stand-in for CIFAR-10)"
STAND_IN = True
CLASSES = cifar10.CLASSES
FOLDER = "silhouettes-batches-py"
CHECKSUMS = "checksums.json"
PER_BATCH = 4_000
SEED = 10


def files(root: Path) -> list[Path]:
    """The six batch files."""
    return [root / FOLDER / name for name in cifar10.BATCH_FILES]


def splits(root: Path, download: bool) -> tuple[Split, Split]:
    """Training and test set, made the first time; `download` has nothing to do."""
    if not (root / FOLDER / CHECKSUMS).is_file():
        write(root)
    sums = json.loads((root / FOLDER / CHECKSUMS).read_text())
    entries = [[name, sums[name]] for name in cifar10.BATCH_FILES]
    loader = type("SilhouettesStandIn", (torchvision_datasets().CIFAR10,), {
        "base_folder": FOLDER,
        "train_list": entries[:-1],
        "test_list": entries[-1:],
        "meta": {"filename": "batches.meta", "key": "label_names", "md5": sums["batches.meta"]},
    })
    return cifar10.split(loader(str(root), train=True)), cifar10.split(loader(str(root), train=False))


def write(root: Path, per_batch: int = PER_BATCH) -> None:
    """Draw all batches beside their place, then rename their folder: half a set is never found."""
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root) as scratch:
        folder = Path(scratch) / FOLDER
        folder.mkdir()
        sums = {"batches.meta": put(folder / "batches.meta", {"label_names": list(CLASSES)})}
        for number, name in enumerate(tqdm(cifar10.BATCH_FILES, desc="drawing silhouettes", unit="batch", leave=False)):
            sums[name] = put(folder / name, batch(np.random.default_rng([SEED, number]), per_batch))
        (folder / CHECKSUMS).write_text(json.dumps(sums, indent=2))
        shutil.rmtree(root / FOLDER, ignore_errors=True)
        os.rename(folder, root / FOLDER)


def batch(random: np.random.Generator, count: int) -> dict[str, object]:
    """One batch as CIFAR-10 has it: rows of 3,072 bytes, red plane first, and a list of labels."""
    labels = random.permutation(np.arange(count) % len(CLASSES))
    images = np.stack([drawing.draw(CLASSES[label], random) for label in labels])
    return {"data": images.transpose(0, 3, 1, 2).reshape(count, -1), "labels": labels.tolist()}


def put(path: Path, content: dict[str, object]) -> str:
    """Pickle a dictionary as CIFAR-10's files are; returns the MD5 that torchvision compares."""
    data = pickle.dumps(content, protocol=2)
    path.write_bytes(data)
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
