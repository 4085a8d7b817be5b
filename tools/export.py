"""Train if need be, export to TorchScript, prove and publish: `python -m tools.export mnist_mlp`.

The file is proven against the eager network, against config.pbtxt and against the recipe's accuracy floor before
one rename makes it the model's next version. A failed proof leaves the repository as it was.

    python -m tools.export                      # every model that has a recipe
    python -m tools.export --missing            # only models without a version: what `make build` does
    python -m tools.export mnist_mlp --keep 3   # publish, then remove all but the three newest versions
    python -m tools.export mnist_mlp --verify   # publish, serve it, and take it back if it answers otherwise there
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from clients.errors import ClientError
from tools import recipes, settings, train
from tools.datasets import DataError, ImageData
from tools.importing import imported
from tools.proving import contents, pipelines, proof
from tools.recipes import AnyRecipe, Imported, Pipeline, Recipe, RecipeError, Step
from tools.repository import (
    MANIFEST_FILE,
    REPOSITORY,
    ROOT,
    RepositoryError,
    held_versions,
    keep_versions,
    refuse_existing,
    refuse_unwritable,
    remove_version,
    staged_version,
    versions,
    write_cpu_config,
)
from tools.server.server_error import ServerError
from tools.signing.signatures import sign, signer

# The newest release whose libtorch backend the files are written for; docker-compose.yml pulls the same one.
TRITON_CONTAINER = "nvcr.io/nvidia/tritonserver:26.09-py3"
SAMPLES = ROOT / "build" / "samples"
SAMPLES_PER_CLASS = 5
Fill = Callable[[Path], dict[str, Any]]


def publish(
    model: str,
    fill: Fill,
    repository: Path = REPOSITORY,
    version: int | None = None,
    held: bool = False,
    private_key: Path | None = None,
) -> dict[str, Any]:
    """Publish what `fill` writes into an empty folder as a version of a model, with its manifest.

    Args:
        model: its name.
        fill: writes the model's files, proves them, and returns what it found out.
        repository: where the model has its folder.
        version: a number (default: the next).
        held: keep it from Triton until `tools.versions` promotes it.
        private_key: sign it, before anybody sees it.

    Returns:
        The manifest, as written beside the files.

    Raises:
        ProofError: what was written must not be served; the repository is as it was.
        RepositoryError: the version exists already, or the config cannot be read.
    """
    version = version or max(versions(model, repository) + held_versions(model, repository), default=0) + 1
    with staged_version(model, version, repository, held) as folder:
        evidence = fill(folder)
        manifest = {
            "model": model,
            "version": version,
            "recipe": f"tools/recipes/{model}.py",
            **evidence,
            "torch": torch.__version__,
            "triton_container": TRITON_CONTAINER,
            **fingerprint(folder),
        }
        (folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2) + "\n")
        write_cpu_config(model, repository)
        if private_key:
            sign(model, version, private_key, repository, folder)
    return manifest


def fingerprint(folder: Path) -> dict[str, Any]:
    """Names, sizes and SHA-256 of a version's files: `file` for the one of most models; nothing for an ensemble."""
    files = [
        {"name": path.name, "bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in sorted(folder.iterdir())
    ]
    if len(files) == 1:
        return {"file": files[0]}
    return {"files": files} if files else {}


def write_samples(model: str, data: ImageData, folder: Path = SAMPLES) -> Path:
    """A few test images per class as PNG files under <model>/<label>/, for people, demos and load tests."""
    for label, name in enumerate(data.classes):
        place = folder / model / name
        place.mkdir(parents=True, exist_ok=True)
        for index in (data.test_labels == label).nonzero()[0][:SAMPLES_PER_CLASS]:
            (place / f"{index:05d}.png").write_bytes(pipelines.png(data.test_images[index]))
    return folder / model


def prepare(arguments: argparse.Namespace, model: str, recipe: AnyRecipe) -> tuple[ImageData | None, Fill]:
    """What a model is tested on, if it is, and how its folder is filled; a training happens here."""
    repository = arguments.repository
    if isinstance(recipe, Recipe):
        trained = train.train_from(arguments, model, repository)
        return trained.data, partial(contents.fill_trained, trained, repository)
    if isinstance(recipe, Pipeline):
        data = pipelines.data_of(model, repository)
        return data, partial(contents.fill_pipeline, model, recipe, data, repository)
    if isinstance(recipe, Imported):
        return None, partial(imported.fill, model, recipe, repository)
    if isinstance(recipe, Step):
        return None, partial(contents.fill_step, model, recipe, repository)
    return None, partial(contents.fill_python_step, model, recipe, repository)


def export(arguments: argparse.Namespace, model: str) -> dict[str, Any]:
    """Make and publish a model, and remove old versions, as the command line says."""
    recipe, repository = recipes.load(model), arguments.repository
    refuse_unwritable(model, repository)
    if arguments.sign:
        signer(arguments.sign)
    if arguments.version:
        refuse_existing(model, arguments.version, repository)
    data, fill = prepare(arguments, model, recipe)
    manifest = publish(model, fill, repository, arguments.version, arguments.hold, arguments.sign)
    if data:
        write_samples(model, data, arguments.samples)
    removed = keep_versions(model, arguments.keep, repository) if arguments.keep else []
    print(summary(manifest) + (f"; removed {', '.join(map(str, removed))}" if removed else ""))
    return manifest


def verified(manifests: list[dict[str, Any]], repository: Path) -> bool:
    """Verify what was just published on a server; versions that fail are taken back.

    Raises:
        RepositoryError: another version than the published one is served.
    """
    from tools import verify
    from tools.verifying.verification_table import report

    published = {manifest["model"]: manifest["version"] for manifest in manifests}
    found = verify.verify_here(list(published), repository) if published else []
    for one in found:
        if one.version != published[one.model]:
            raise RepositoryError(
                f"{one.model}: version {one.version} is served, so {published[one.model]} is not tried"
            )
    failed = [one for one in found if not one.passed]
    for one in failed:
        remove_version(one.model, one.version, repository)
        print(f"error: {one.model} version {one.version} was taken back:\n{report([one])}", file=sys.stderr)
    return not failed


def summary(manifest: dict[str, Any]) -> str:
    """A manifest in one line."""
    parts = [f"{manifest['model']} version {manifest['version']}"]
    if "accuracy" in manifest:
        images = f"{manifest['test_images']} images of {manifest['data']['title']}"
        parts[0] += f": test accuracy {manifest['accuracy']:.2%} of {images}"
    for other in ("parent", "classifier"):
        if other in manifest:
            parts.append(f"{manifest[other]}: {manifest[f'{other}_accuracy']:.2%}")
    if "file" in manifest:
        parts.append(f"{manifest['file']['bytes']:,} bytes")
    if "max_abs_difference" in manifest:
        parts.append(f"TorchScript and eager differ by at most {manifest['max_abs_difference']:.1e}")
    return "; ".join(parts)


def chosen_models(arguments: argparse.Namespace) -> list[str]:
    """The models to export, without those that have a version where only missing ones are wanted.

    Those that have one get their CPU config brought up to date: config.pbtxt may have changed since, and a server
    whose repository is mounted read-only could not do it.
    """
    models = arguments.models or [name for name in recipes.names() if recipes.load(name).default]
    models = pipelines.in_order(models, arguments.repository)
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
    parser.add_argument(
        "models",
        nargs="*",
        metavar="MODEL",
        help=f"of {', '.join(recipes.names())} (default: all that are not made by name only)",
    )
    parser.add_argument("--missing", action="store_true", help="skip models that have a version")
    parser.add_argument("--version", type=settings.positive, help="number of the new version (default: the next)")
    parser.add_argument(
        "--keep", type=settings.positive, metavar="K", help="remove all but the K newest versions afterwards"
    )
    way = parser.add_mutually_exclusive_group()
    way.add_argument(
        "--verify", action="store_true", help="send the held-out set through a server afterwards; take back what fails"
    )
    way.add_argument(
        "--hold",
        action="store_true",
        help="keep the version from servers until `tools.versions NAME promote` lets it in",
    )
    parser.add_argument("--sign", type=Path, metavar="PRIVATE.pem", help="sign the version (tools.sign makes keys)")
    parser.add_argument("--repository", type=Path, default=REPOSITORY, help="(default: %(default)s)")
    parser.add_argument("--samples", type=Path, default=SAMPLES, help="where sample images go (default: %(default)s)")
    settings.add_arguments(parser)
    return parser


def main() -> int:
    """Entry point."""
    arguments = parser().parse_args()
    try:
        manifests = [export(arguments, model) for model in chosen_models(arguments)]
        if arguments.verify and not verified(manifests, arguments.repository.resolve()):
            return 1
    except (ClientError, proof.ProofError, RecipeError, DataError, RepositoryError, ServerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; nothing was published, and the same command goes on where it stopped", file=sys.stderr)
        return 130
    if old := pipelines.outdated(arguments.repository):
        print(
            f"notice: {', '.join(old)}: proven with older versions of members than are served now; "
            f"`python -m tools.export {' '.join(old)}` proves the new ones",
            file=sys.stderr,
        )
    print(json.dumps({manifest["model"]: manifest for manifest in manifests}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
