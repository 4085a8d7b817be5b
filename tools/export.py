"""Train if need be, export to TorchScript, prove and publish: `python -m tools.export mnist_mlp`.

The file is proven against the eager network, against config.pbtxt and against the recipe's accuracy floor before
one rename makes it the model's next version. A failed proof leaves the repository as it was.

    python -m tools.export                      # every model that has a recipe
    python -m tools.export --missing            # only models without a version: what `make build` does
    python -m tools.export mnist_mlp --keep 3   # publish, then remove all but the three newest versions
"""

import argparse
import hashlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from tools import proof, recipes, torchscript, train
from tools.datasets import DataError, ImageData
from tools.recipes import RecipeError
from tools.repository import (
    MANIFEST_FILE,
    MODEL_FILE,
    REPOSITORY,
    ROOT,
    RepositoryError,
    keep_versions,
    refuse_existing,
    staged_version,
    versions,
    write_cpu_config,
)
from tools.train import Trained

# The newest release whose libtorch backend the files are written for; docker-compose.yml pulls the same one.
TRITON_CONTAINER = "nvcr.io/nvidia/tritonserver:26.09-py3"
SAMPLES = ROOT / "build" / "samples"
SAMPLES_PER_CLASS = 5


def publish(trained: Trained, repository: Path = REPOSITORY, version: int | None = None) -> dict[str, Any]:
    """Export, prove and publish a trained network as a version of its model.

    Returns:
        The manifest, as written beside model.pt.

    Raises:
        ProofError: the file is not what was trained, not what config.pbtxt says, or not accurate enough.
        RepositoryError: the version exists already, or the config cannot be read.
    """
    model = trained.settings.model
    version = version or max(versions(model, repository), default=0) + 1
    with staged_version(model, version, repository) as folder:
        file = folder / MODEL_FILE
        proof.prove_scriptable(trained.network, file, model)
        difference = proof.prove_same(trained.network, file, model, repository)
        accuracy = file_accuracy(file, trained, repository)
        proof.prove_accuracy(model, trained.data.name, accuracy, dict(recipes.load(model).floors))
        manifest = manifest_of(trained, version, file, accuracy, difference)
        (folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2) + "\n")
        write_cpu_config(model, repository)
    return manifest


def file_accuracy(file: Path, trained: Trained, repository: Path) -> float:
    """Test accuracy of the file itself, not of the network that it came from."""
    spec = train.input_spec(trained.settings.model, repository)
    data = trained.data
    return train.accuracy(torchscript.load(file), *train.tensors(data.test_images, data.test_labels, spec))


def manifest_of(trained: Trained, version: int, file: Path, accuracy: float, difference: float) -> dict[str, Any]:
    """What this version is, from what it came and how it was proven."""
    data, settings = trained.data, asdict(trained.settings)
    content = file.read_bytes()
    return {
        "model": settings.pop("model"),
        "version": version,
        "recipe": f"tools/recipes/{trained.settings.model}.py",
        "training": {key: value for key, value in settings.items() if key != "data"},
        "data": {"name": data.name, "title": data.title, "stand_in": data.stand_in, "sha256": data.sha256},
        "accuracy": round(accuracy, 6),
        "test_images": len(data.test_labels),
        "max_abs_difference": difference,
        "torch": torch.__version__,
        "triton_container": TRITON_CONTAINER,
        "file": {"name": file.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()},
    }


def write_samples(model: str, data: ImageData, folder: Path = SAMPLES) -> Path:
    """A few test images per class as PNG files under <model>/<label>/, for people, demos and load tests."""
    for label, name in enumerate(data.classes):
        place = folder / model / name
        place.mkdir(parents=True, exist_ok=True)
        for index in (data.test_labels == label).nonzero()[0][:SAMPLES_PER_CLASS]:
            pixels = data.test_images[index]
            image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
            image.save(place / f"{index:05d}.png")
    return folder / model


def export(arguments: argparse.Namespace, model: str) -> dict[str, Any]:
    """Train, publish, write samples and remove old versions as the command line says."""
    if arguments.version:
        refuse_existing(model, arguments.version, arguments.repository)
    trained = train.train_from(arguments, model, arguments.repository)
    manifest = publish(trained, arguments.repository, arguments.version)
    write_samples(model, trained.data, arguments.samples)
    removed = keep_versions(model, arguments.keep, arguments.repository) if arguments.keep else []
    gone = f"; removed {', '.join(map(str, removed))}" if removed else ""
    print(
        f"{model} version {manifest['version']}: test accuracy {manifest['accuracy']:.2%} of "
        f"{manifest['test_images']} images of {trained.data.title}; {manifest['file']['bytes']:,} bytes; "
        f"TorchScript and eager differ by at most {manifest['max_abs_difference']:.1e}{gone}"
    )
    return manifest


def chosen_models(arguments: argparse.Namespace) -> list[str]:
    """The models to export, without those that have a version where only missing ones are wanted.

    Those that have one get their CPU config brought up to date: config.pbtxt may have changed since, and a server
    whose repository is mounted read-only could not do it.
    """
    models = arguments.models or recipes.names()
    if not arguments.missing:
        return list(models)
    built = [model for model in models if versions(model, arguments.repository)]
    for model in built:
        print(f"{model}: version {versions(model, arguments.repository)[-1]} is there", file=sys.stderr)
        write_cpu_config(model, arguments.repository)
    return [model for model in models if model not in built]


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="python -m tools.export", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"default: all ({', '.join(recipes.names())})")
    parser.add_argument("--missing", action="store_true", help="skip models that have a version")
    parser.add_argument("--version", type=train.positive, help="number of the new version (default: the next)")
    parser.add_argument(
        "--keep", type=train.positive, metavar="K", help="remove all but the K newest versions afterwards"
    )
    parser.add_argument("--repository", type=Path, default=REPOSITORY, help="(default: %(default)s)")
    parser.add_argument("--samples", type=Path, default=SAMPLES, help="where sample images go (default: %(default)s)")
    train.add_arguments(parser)
    return parser


def main() -> int:
    """Entry point."""
    arguments = parser().parse_args()
    try:
        manifests = [export(arguments, model) for model in chosen_models(arguments)]
    except (proof.ProofError, RecipeError, DataError, RepositoryError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; nothing was published, and the same command goes on where it stopped", file=sys.stderr)
        return 130
    print(json.dumps({manifest["model"]: manifest for manifest in manifests}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
